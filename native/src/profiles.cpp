#include "profiles.h"

#include <lcms2.h>

#include <algorithm>
#include <cstdlib>

namespace vqi {

namespace {

// A profile that moves no colour by more grey levels is sRGB by another name.
constexpr int SAME = 2;
constexpr size_t MOST_HELD = 16;

// Colours all over the range.
Rgb samples(bool rgb) {
    Rgb image(rgb ? 729 : 256, 1, 3);
    uint8_t *out = image.data.get();
    const auto step = [](int number) { return static_cast<uint8_t>(255 * number / 8); };
    for (int at = 0; at < image.width; at++, out += 3) {
        if (rgb)
            out[0] = step(at / 81), out[1] = step(at / 9 % 9), out[2] = step(at % 9);
        else
            out[0] = out[1] = out[2] = static_cast<uint8_t>(at);
    }
    return image;
}

struct CloseProfile {
    void operator()(void *profile) const { cmsCloseProfile(profile); }
};
using ProfileHandle = std::unique_ptr<void, CloseProfile>;

}  // namespace

ColourProfile::ColourProfile(const std::vector<uint8_t> &profile) {
    const ProfileHandle source(cmsOpenProfileFromMem(profile.data(), static_cast<cmsUInt32Number>(profile.size())));
    const ProfileHandle target(cmsCreate_sRGBProfile());
    if (!source || !target) return;
    const cmsColorSpaceSignature space = cmsGetColorSpace(source.get());
    if (space != cmsSigRgbData && space != cmsSigGrayData) return;
    rgb_ = space == cmsSigRgbData;
    tables_ = rgb_ && !cmsIsMatrixShaper(source.get());
    transform_ = cmsCreateTransform(source.get(), rgb_ ? TYPE_RGB_8 : TYPE_GRAY_8, target.get(), TYPE_RGB_8,
                                    INTENT_PERCEPTUAL, cmsFLAGS_NOCACHE);
    if (!transform_) return;
    const Rgb before = samples(rgb_);
    Rgb after = samples(rgb_);
    convert(after);
    int furthest = 0;
    for (size_t at = 0; at < before.size(); at++)
        furthest = std::max(furthest, std::abs(before.data[at] - after.data[at]));
    if (furthest > SAME) return;
    cmsDeleteTransform(transform_);
    transform_ = nullptr;
}

ColourProfile::~ColourProfile() {
    if (transform_) cmsDeleteTransform(transform_);
}

void ColourProfile::convert(Rgb &image) const {
    std::vector<uint8_t> row(image.row_size());
    for (int y = 0; y < image.height; y++) {
        uint8_t *pixels = image.row(y);
        if (rgb_)
            std::copy_n(pixels, row.size(), row.data());
        else
            for (int x = 0; x < image.width; x++) row[x] = pixels[3 * static_cast<size_t>(x)];
        cmsDoTransform(transform_, row.data(), pixels, static_cast<cmsUInt32Number>(image.width));
    }
}

std::shared_ptr<const ColourProfile> Profiles::of(const std::vector<uint8_t> &profile) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto entry = held_.begin(); entry != held_.end(); ++entry) {
        if (entry->first != profile) continue;
        held_.splice(held_.begin(), held_, entry);
        return entry->second;
    }
    held_.emplace_front(profile, std::make_shared<const ColourProfile>(profile));
    if (held_.size() > MOST_HELD) held_.pop_back();
    return held_.front().second;
}

}  // namespace vqi
