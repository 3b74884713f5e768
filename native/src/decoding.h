// Photographs from bytes that are not trusted: to the bit what vqi.dataset.images makes of them, or a refusal.
#pragma once

#include <cstdint>
#include <string>

#include "pixels.h"
#include "profiles.h"

namespace vqi {

// How files become pixels, as a bundle says it (components/vqi/dataset/decoding.py).
struct Decoding {
    int64_t white_level = 65535;
    int64_t max_pixels = 100'000'000;
    bool profiles = false;
};

struct Bytes {
    const uint8_t *data;
    size_t size;
};

// What a file's own decoder made of it: stored values as Pillow loads them, upright, with 1 (grey), 2 (grey, alpha), 3
// or 4 channels, of 8 bits or, where `wide` is filled, of 16; its profile (ICC), empty where it bears none.
struct Stored {
    Plane<uint8_t> narrow;
    Plane<uint16_t> wide;
    bool grey;
    std::vector<uint8_t> profile;
};

Stored decode_bmp(const Bytes &bytes, const std::string &name, const Decoding &decoding);
Stored decode_jpeg(const Bytes &bytes, const std::string &name, const Decoding &decoding);
Stored decode_png(const Bytes &bytes, const std::string &name, const Decoding &decoding);
// Where the program is built with libtiff (VQI_TIFF).
Stored decode_tiff(const Bytes &bytes, const std::string &name, const Decoding &decoding);

// A photograph as RGB, uint8 [H, W, 3], upright and in sRGB. Throws BadInput where it is unreadable, too large, or of a
// kind that is refused here.
Rgb decode(const Bytes &bytes, const std::string &name, const Decoding &decoding, Profiles &profiles);

// Throws BadInput where a photograph has more pixels than a bundle takes.
void check_pixels(const std::string &name, int64_t width, int64_t height, const Decoding &decoding);

// Values without a profile as RGB: 16 bits by the white level, what is transparent over grey.
Rgb to_rgb(const Plane<uint8_t> &values);
Rgb to_rgb(const Plane<uint16_t> &values, int64_t white);

}  // namespace vqi
