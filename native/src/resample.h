// Pillow's resize, to the last bit: what training and prediction in Python resize by.
#pragma once

#include "pixels.h"

namespace vqi {

enum class Filter { box, bilinear };

// A part of an image, in pixel edges.
struct Box {
    float x1, y1, x2, y2;
};

// In 8 bits, antialiased.
Rgb resize(const RgbView &image, int width, int height, Filter filter);

// A part of a map, in float32.
Map resize(const Map &map, int width, int height, const Box &part);

}  // namespace vqi
