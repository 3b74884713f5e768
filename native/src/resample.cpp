// Pillow 13 (libImaging/Resample.c): each axis by itself, with weights in double that sum to 1; images
// of 8 bits are summed up in whole numbers of 2^-22. The order of sums decides on the last bit, and so does a
// multiplication that is not rounded before its sum: the build says -ffp-contract=off.
#include "resample.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace vqi {

namespace {

constexpr int PRECISION_BITS = 32 - 8 - 2;

// What one pixel of the result is made from: `count` pixels from `first` on, by the weights at `size` * its number.
struct Weights {
    int size;
    std::vector<int> first, count;
    std::vector<double> values;
};

double weight_of(Filter filter, double distance) {
    if (filter == Filter::box) return distance > -0.5 && distance <= 0.5 ? 1.0 : 0.0;
    distance = std::abs(distance);
    return distance < 1.0 ? 1.0 - distance : 0.0;
}

Weights weights_of(int from, float start, float end, int to, Filter filter) {
    const double scale = static_cast<double>(end - start) / to, widened = std::max(scale, 1.0);
    const double support = (filter == Filter::box ? 0.5 : 1.0) * widened, shrink = 1.0 / widened;
    Weights weights;
    weights.size = static_cast<int>(std::ceil(support)) * 2 + 1;
    weights.first.resize(to);
    weights.count.resize(to);
    weights.values.assign(static_cast<size_t>(to) * weights.size, 0.0);
    for (int number = 0; number < to; number++) {
        const double centre = start + (number + 0.5) * scale;
        const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
        const int count = std::min(static_cast<int>(centre + support + 0.5), from) - first;
        double *values = &weights.values[static_cast<size_t>(number) * weights.size], sum = 0.0;
        for (int at = 0; at < count; at++) {
            values[at] = weight_of(filter, (at + first - centre + 0.5) * shrink);
            sum += values[at];
        }
        for (int at = 0; at < count && sum != 0.0; at++) values[at] /= sum;
        weights.first[number] = first;
        weights.count[number] = count;
    }
    return weights;
}

std::vector<int> in_whole_numbers(const Weights &weights) {
    std::vector<int> values(weights.values.size());
    for (size_t number = 0; number < values.size(); number++) {
        const double scaled = weights.values[number] * (1 << PRECISION_BITS);
        values[number] = static_cast<int>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    }
    return values;
}

uint8_t clipped(int sum) { return static_cast<uint8_t>(std::clamp(sum >> PRECISION_BITS, 0, 255)); }

// Pillow since 13.0 begins with the axis that leaves less to do, and the order shows in the last bit.
bool begins_vertically(int width, int height, int to_width, int to_height) {
    return height > to_height && height - to_height > 2 * (width - to_width);
}

constexpr int HALF = 1 << (PRECISION_BITS - 1);

Rgb across(const RgbView &image, const Weights &weights, int width) {
    Rgb result(width, image.height, 3);
    const std::vector<int> values = in_whole_numbers(weights);
    for (int y = 0; y < image.height; y++) {
        const uint8_t *in = image.row(y);
        uint8_t *out = result.row(y);
        for (int x = 0; x < width; x++, out += 3) {
            const uint8_t *pixel = in + 3 * static_cast<size_t>(weights.first[x]);
            const int *weight = &values[static_cast<size_t>(x) * weights.size];
            int red = HALF, green = HALF, blue = HALF;
            for (int at = 0; at < weights.count[x]; at++, pixel += 3) {
                red += pixel[0] * weight[at];
                green += pixel[1] * weight[at];
                blue += pixel[2] * weight[at];
            }
            out[0] = clipped(red), out[1] = clipped(green), out[2] = clipped(blue);
        }
    }
    return result;
}

// The first row of `image` is row `top` of what the weights are for.
Rgb down(const RgbView &image, const Weights &weights, int height, int top) {
    Rgb result(image.width, height, 3);
    const std::vector<int> values = in_whole_numbers(weights);
    std::vector<int> sums(result.row_size());
    for (int y = 0; y < height; y++) {
        std::fill(sums.begin(), sums.end(), HALF);
        for (int at = 0; at < weights.count[y]; at++) {
            const uint8_t *in = image.row(weights.first[y] - top + at);
            const int weight = values[static_cast<size_t>(y) * weights.size + at];
            for (size_t x = 0; x < sums.size(); x++) sums[x] += in[x] * weight;
        }
        std::transform(sums.begin(), sums.end(), result.row(y), clipped);
    }
    return result;
}

Map across(const Map &map, const Weights &weights, int width) {
    Map result(width, map.height);
    for (int y = 0; y < map.height; y++)
        for (int x = 0; x < width; x++) {
            const float *in = map.row(y) + weights.first[x];
            const double *weight = &weights.values[static_cast<size_t>(x) * weights.size];
            double sum = 0.0;
            for (int at = 0; at < weights.count[x]; at++) sum += in[at] * weight[at];
            result.row(y)[x] = static_cast<float>(sum);
        }
    return result;
}

Map down(const Map &map, const Weights &weights, int height) {
    Map result(map.width, height);
    std::vector<double> sums(map.width);
    for (int y = 0; y < height; y++) {
        std::fill(sums.begin(), sums.end(), 0.0);
        for (int at = 0; at < weights.count[y]; at++) {
            const float *in = map.row(weights.first[y] + at);
            const double weight = weights.values[static_cast<size_t>(y) * weights.size + at];
            for (int x = 0; x < map.width; x++) sums[x] += in[x] * weight;
        }
        std::transform(sums.begin(), sums.end(), result.row(y), [](double sum) { return static_cast<float>(sum); });
    }
    return result;
}

Rgb copy_of(const RgbView &image) {
    Rgb copy(image.width, image.height, 3);
    for (int y = 0; y < image.height; y++) std::copy_n(image.row(y), copy.row_size(), copy.row(y));
    return copy;
}

}  // namespace

Rgb resize(const RgbView &image, int width, int height, Filter filter) {
    const Weights columns = weights_of(image.width, 0, static_cast<float>(image.width), width, filter);
    const Weights rows = weights_of(image.height, 0, static_cast<float>(image.height), height, filter);
    if (width == image.width && height == image.height) return copy_of(image);
    if (width == image.width) return down(image, rows, height, 0);
    if (height == image.height) return across(image, columns, width);
    if (begins_vertically(image.width, image.height, width, height))
        return across(down(image, rows, height, 0), columns, width);
    const int top = rows.first.front(), bottom = rows.first.back() + rows.count.back();
    return down(across(image.cut(0, top, image.width, bottom), columns, width), rows, height, top);
}

Map resize(const Map &map, int width, int height, const Box &part) {
    const bool narrowed = width != map.width || part.x1 != 0 || part.x2 != width;
    const bool shortened = height != map.height || part.y1 != 0 || part.y2 != height;
    const Weights columns = weights_of(map.width, part.x1, part.x2, width, Filter::bilinear);
    const Weights rows = weights_of(map.height, part.y1, part.y2, height, Filter::bilinear);
    if (narrowed && !shortened) return across(map, columns, width);
    if (shortened && !narrowed) return down(map, rows, height);
    if (narrowed && begins_vertically(map.width, map.height, width, height))
        return across(down(map, rows, height), columns, width);
    if (narrowed) return down(across(map, columns, width), rows, height);
    Map copy(map.width, map.height);
    std::copy_n(map.data.get(), map.size(), copy.data.get());
    return copy;
}

}  // namespace vqi
