#include "decoding.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <tuple>
#include <utility>

#include "errors.h"

namespace vqi {

namespace {

// What transparent pixels become (components/vqi/dataset/scaling.py).
constexpr int TRANSPARENT_GREY = 128;

uint8_t over_grey(int colour, int alpha) {
    return static_cast<uint8_t>((colour * alpha + TRANSPARENT_GREY * (255 - alpha) + 127) / 255);
}

// RGB of stored values, by what becomes of each.
template <typename Value, typename Scale>
Rgb colours_of(const Plane<Value> &values, Scale scale) {
    Rgb rgb(values.width, values.height, 3);
    const int channels = values.channels;
    const bool grey = channels < 3;
    const Value *in = values.data.get();
    for (uint8_t *out = rgb.data.get(), *end = out + rgb.size(); out != end; out += 3, in += channels)
        for (int channel = 0; channel < 3; channel++) out[channel] = scale(in[grey ? 0 : channel]);
    return rgb;
}

// What is transparent becomes grey, where there is a last channel that says so.
template <typename Value, typename Scale>
void blend(Rgb &rgb, const Plane<Value> &values, Scale scale) {
    if (values.channels % 2) return;
    const Value *alpha = values.data.get() + values.channels - 1;
    for (uint8_t *out = rgb.data.get(), *end = out + rgb.size(); out != end; out += 3, alpha += values.channels) {
        const uint8_t opacity = scale(*alpha);
        for (int channel = 0; opacity != 255 && channel < 3; channel++) out[channel] = over_grey(out[channel], opacity);
    }
}

uint8_t same(uint8_t value) { return value; }

}  // namespace

Rgb to_rgb(const Plane<uint8_t> &values) {
    Rgb rgb = colours_of(values, same);
    blend(rgb, values, same);
    return rgb;
}

Rgb to_rgb(const Plane<uint16_t> &values, int64_t white) {
    const auto scaled = [](int64_t end) {
        return [end](uint16_t value) { return static_cast<uint8_t>(std::min<int64_t>(value, end) * 255 / end); };
    };
    // Alpha has a range of its own: that of 16 bits, unless it ends where white does.
    uint16_t most = 0;
    if (values.channels % 2 == 0)
        for (size_t at = values.channels - 1; at < values.size(); at += values.channels)
            most = std::max(most, values.data[at]);
    Rgb rgb = colours_of(values, scaled(white));
    blend(rgb, values, scaled(most <= white ? white : 65535));
    return rgb;
}

void check_pixels(const std::string &name, int64_t width, int64_t height, const Decoding &decoding) {
    if (width <= decoding.max_pixels && height <= decoding.max_pixels && width * height <= decoding.max_pixels) return;
    char most[32];
    std::snprintf(most, sizeof most, "%.0f", static_cast<double>(decoding.max_pixels) / 1e6);
    throw BadInput(name + " has " + std::to_string(width) + " x " + std::to_string(height) + " pixels, more than " +
                   most + " megapixels; scale it down, or raise image.max_megapixels.");
}

namespace {

Stored stored_values(const Bytes &bytes, const std::string &name, const Decoding &decoding) {
    const auto starts = [&](const char *start, size_t length) {
        return bytes.size >= length && std::memcmp(bytes.data, start, length) == 0;
    };
    if (starts("\x89PNG\r\n\x1a\n", 8)) return decode_png(bytes, name, decoding);
    if (starts("\xff\xd8\xff", 3)) return decode_jpeg(bytes, name, decoding);
    if (starts("BM", 2)) return decode_bmp(bytes, name, decoding);
#ifdef VQI_TIFF
    for (const char *start : {"II*\0", "MM\0*", "II+\0", "MM\0+"})
        if (starts(start, 4)) return decode_tiff(bytes, name, decoding);
    constexpr const char *READ = "PNG, JPEG, BMP and TIFF";
#else
    constexpr const char *READ = "PNG, JPEG and BMP; TIFF where it is built with libtiff";
#endif
    for (const auto &[start, length, form] : {std::tuple{"II*\0", 4, "a TIFF"},
                                              {"MM\0*", 4, "a TIFF"},
                                              {"II+\0", 4, "a TIFF"},
                                              {"MM\0+", 4, "a TIFF"},
                                              {"RIFF", 4, "a WEBP"},
                                              {"P4", 2, "a PBM"},
                                              {"P5", 2, "a PGM"},
                                              {"P6", 2, "a PPM"}})
        if (starts(start, length))
            throw BadInput(name + " is " + form + " file, which the native program does not read (it reads " + READ +
                           "); save it as PNG.");
    throw BadInput(name + " is not an image that can be read (no known format).");
}

}  // namespace

Rgb decode(const Bytes &bytes, const std::string &name, const Decoding &decoding, Profiles &profiles) {
    Stored stored = stored_values(bytes, name, decoding);
    std::shared_ptr<const ColourProfile> profile;
    if (decoding.profiles && !stored.profile.empty()) profile = profiles.of(stored.profile);
    if (profile && !profile->converts(stored.grey)) profile = nullptr;
    if (profile && profile->has_tables())
        throw BadInput(name +
                       " bears a colour profile (ICC) of tables, which the native program does not convert; save it in "
                       "sRGB without one.");
    if (stored.wide.data) {
        Rgb rgb = to_rgb(stored.wide, decoding.white_level);
        if (profile) profile->convert(rgb);
        return rgb;
    }
    Rgb rgb = stored.narrow.channels == 3 ? std::move(stored.narrow) : colours_of(stored.narrow, same);
    if (profile) profile->convert(rgb);
    if (stored.narrow.data) blend(rgb, stored.narrow, same);
    return rgb;
}

}  // namespace vqi
