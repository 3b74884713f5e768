// Colour profiles (ICC) that photographs bear, made sRGB by LittleCMS as Pillow does
// (components/vqi/dataset/profiles.py).
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "pixels.h"

namespace vqi {

// What a profile says; nothing of it where it is damaged, of another kind, or moves no colour.
class ColourProfile {
public:
    explicit ColourProfile(const std::vector<uint8_t> &profile);
    ~ColourProfile();
    ColourProfile(const ColourProfile &) = delete;

    // Whether a photograph becomes another: `grey` is neutral in any RGB.
    bool converts(bool grey) const { return transform_ && (rgb_ || grey); }
    // Whether it is made of tables, which versions of LittleCMS interpolate differently.
    bool has_tables() const { return tables_; }
    // Colours in place; of grey ones any channel is taken.
    void convert(Rgb &image) const;

private:
    void *transform_ = nullptr;
    bool rgb_ = false, tables_ = false;
};

// The profiles that were met last; any thread may ask.
class Profiles {
public:
    std::shared_ptr<const ColourProfile> of(const std::vector<uint8_t> &profile);

private:
    std::mutex mutex_;
    std::list<std::pair<std::vector<uint8_t>, std::shared_ptr<const ColourProfile>>> held_;
};

}  // namespace vqi
