// Images in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace vqi {

// An owned array that is not set to zero first.
template <typename Value>
struct Plane {
    int width = 0, height = 0, channels = 1;
    std::unique_ptr<Value[]> data;

    Plane() = default;
    Plane(int width, int height, int channels = 1)
        : width(width), height(height), channels(channels), data(new Value[size()]) {}

    size_t size() const { return static_cast<size_t>(width) * height * channels; }
    size_t row_size() const { return static_cast<size_t>(width) * channels; }
    Value *row(int y) { return data.get() + y * row_size(); }
    const Value *row(int y) const { return data.get() + y * row_size(); }
};

using Rgb = Plane<uint8_t>;  // channels = 3
using Map = Plane<float>;
using Mask = Plane<uint8_t>;

// A rectangle of an RGB image that someone else owns.
struct RgbView {
    const uint8_t *data;
    int width, height;
    size_t stride;

    RgbView(const Rgb &image)
        : data(image.data.get()), width(image.width), height(image.height), stride(image.row_size()) {}
    RgbView(const uint8_t *data, int width, int height, size_t stride)
        : data(data), width(width), height(height), stride(stride) {}
    const uint8_t *row(int y) const { return data + y * stride; }
    RgbView cut(int left, int top, int right, int bottom) const {
        return {data + top * stride + 3 * static_cast<size_t>(left), right - left, bottom - top, stride};
    }
};

}  // namespace vqi
