#include "geometry.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "errors.h"
#include "resample.h"

namespace vqi {

namespace {

// What stands in place of pixels outside of the area.
constexpr uint8_t OUTSIDE[3] = {124, 116, 104};

// To the nearest whole number, halves to the even one, as Python rounds.
int rounded(double value) { return static_cast<int>(std::nearbyint(value)); }

int corner(int size, int crop) { return (size - crop) / 2; }

std::array<double, 2> extent_of(const std::vector<Ring> &rings) {
    std::array<double, 2> extent{0, 0};
    for (const Ring &ring : rings)
        for (const auto &point : ring)
            for (int axis : {0, 1}) extent[axis] = std::max(extent[axis], point[axis]);
    return extent;
}

}  // namespace

Rgb Geometry::apply(const RgbView &photograph, const std::string &name) const {
    RgbView part = photograph;
    if (region) {
        const auto [left, top, right, bottom] = *region;
        if (right > part.width || bottom > part.height)
            throw BadInput("image.region [" + std::to_string(left) + ", " + std::to_string(top) + ", " +
                           std::to_string(right) + ", " + std::to_string(bottom) + "] reaches outside an image of " +
                           std::to_string(part.width) + " x " + std::to_string(part.height) + " pixels.");
        part = part.cut(left, top, right, bottom);
    }
    const Rgb scaled = resize(part, size.width, size.height, Filter::bilinear);
    const Size shape = map_size();
    const int left = corner(size.width, shape.width), top = corner(size.height, shape.height);
    const RgbView view = RgbView(scaled).cut(left, top, left + shape.width, top + shape.height);
    Rgb result(shape.width, shape.height, 3);
    for (int y = 0; y < shape.height; y++) std::copy_n(view.row(y), result.row_size(), result.row(y));
    if (area.empty()) return result;
    const Mask mask = inside({photograph.height, photograph.width}, name);
    for (size_t at = 0; at < mask.size(); at++)
        if (!mask.data[at]) std::copy_n(OUTSIDE, 3, &result.data[3 * at]);
    return result;
}

std::array<double, 4> Geometry::seen(Size original) const {
    const std::array<int, 4> part = region.value_or(std::array<int, 4>{0, 0, original.width, original.height});
    const auto [x1, y1, x2, y2] = part;
    const double down = static_cast<double>(y2 - y1) / size.height, across = static_cast<double>(x2 - x1) / size.width;
    const Size shape = map_size();
    const int left = corner(size.width, shape.width), top = corner(size.height, shape.height);
    return {x1 + left * across, y1 + top * down, x1 + (left + shape.width) * across, y1 + (top + shape.height) * down};
}

Mask Geometry::inside(Size original, const std::string &) const {
    const auto [right, bottom] = extent_of(area);
    if (right > original.width || bottom > original.height) {
        char reach[64];
        std::snprintf(reach, sizeof reach, "%g, %g", right, bottom);
        throw BadInput(std::string("image.area reaches to ") + reach + ", outside of an image of " +
                       std::to_string(original.width) + " x " + std::to_string(original.height) + " pixels.");
    }
    const auto [x1, y1, x2, y2] = seen(original);
    const Size shape = map_size();
    const double across = shape.width / (x2 - x1), down = shape.height / (y2 - y1);
    std::vector<Ring> moved = area;
    for (Ring &ring : moved)
        for (auto &[x, y] : ring) x = (x - x1) * across, y = (y - y1) * down;
    Mask mask = draw_area(moved, shape);
    if (std::none_of(mask.data.get(), mask.data.get() + mask.size(), [](uint8_t value) { return value; }))
        throw BadInput("image.area holds no pixel of what the network sees; look at image.region and image.crop.");
    return mask;
}

Map Geometry::invert_map(const Map &map, Size original) const {
    const auto [x1, y1, x2, y2] = seen(original);
    const int left = std::min(rounded(x1), original.width - 1), top = std::min(rounded(y1), original.height - 1);
    const int right = std::max(rounded(x2), left + 1), bottom = std::max(rounded(y2), top + 1);
    const auto edge = [](double at, double start, double end, int length) {
        return static_cast<float>(std::clamp((at - start) / (end - start) * length, 0.0, static_cast<double>(length)));
    };
    const Box part{edge(left, x1, x2, map.width), edge(top, y1, y2, map.height), edge(right, x1, x2, map.width),
                   edge(bottom, y1, y2, map.height)};
    const Map scaled = resize(map, right - left, bottom - top, part);
    Map result(original.width, original.height);
    std::fill_n(result.data.get(), result.size(), std::numeric_limits<float>::quiet_NaN());
    for (int y = top; y < bottom; y++) std::copy_n(scaled.row(y - top), scaled.row_size(), result.row(y) + left);
    if (area.empty()) return result;
    const Mask mask = draw_area(area, original);
    for (size_t at = 0; at < mask.size(); at++)
        if (!mask.data[at]) result.data[at] = std::numeric_limits<float>::quiet_NaN();
    return result;
}

}  // namespace vqi
