#include "statistics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "resample.h"

namespace vqi {

namespace {

constexpr int CELLS = 32, TILES = 8, WINDOW = 16;
constexpr double TRIMMED = 0.2;

struct Statistic {
    const char *phrase;
    int decimals;
};

constexpr std::array<Statistic, STATISTICS> FORMS{{
    {"size (side of a square of its area, pixels)", 0},
    {"aspect (width by height)", 3},
    {"mean brightness", 0},
    {"colour (mean red less green)", 0},
    {"colour (mean blue less green)", 0},
    {"colourfulness (largest less smallest channel)", 1},
    {"contrast (standard deviation of its grey levels)", 1},
    {"sharpness (Laplacian of the sharpest quarter)", 2},
    {"share of one grey level", 2},
}};

double middle_mean(std::vector<float> values) {
    std::sort(values.begin(), values.end());
    const auto out = static_cast<size_t>(static_cast<double>(values.size()) * TRIMMED);
    double sum = 0;
    for (size_t at = out; at < values.size() - out; at++) sum += values[at];
    return sum / static_cast<double>(values.size() - 2 * out);
}

// Pillow's luminance, ITU-R 601-2 in whole numbers.
Plane<uint8_t> grey_of(const Rgb &image) {
    Plane<uint8_t> grey(image.width, image.height);
    const uint8_t *in = image.data.get();
    for (size_t at = 0; at < grey.size(); at++, in += 3)
        grey.data[at] = static_cast<uint8_t>((in[0] * 19595 + in[1] * 38470 + in[2] * 7471 + 0x8000) >> 16);
    return grey;
}

double sharpness(const Plane<uint8_t> &grey) {
    const int height = (grey.height - 2) / TILES, width = (grey.width - 2) / TILES;
    std::vector<double> tiles;
    for (int row = 0; row < TILES; row++)
        for (int column = 0; column < TILES; column++) {
            int64_t sum = 0;
            for (int y = 1 + row * height; y <= (row + 1) * height; y++)
                for (int x = 1 + column * width; x <= (column + 1) * width; x++) {
                    const uint8_t *middle = grey.row(y) + x;
                    sum += std::abs(4 * middle[0] - middle[-grey.width] - middle[grey.width] - middle[-1] - middle[1]);
                }
            tiles.push_back(static_cast<double>(sum) / (static_cast<double>(height) * width));
        }
    std::sort(tiles.begin(), tiles.end());
    const double at = 0.75 * static_cast<double>(tiles.size() - 1);
    const auto below = static_cast<size_t>(at);
    return tiles[below] + (at - static_cast<double>(below)) * (tiles[below + 1] - tiles[below]);
}

std::string formatted(double value, int decimals) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", decimals, value);
    // No minus before zeros.
    if (text[0] == '-' && std::string(text).find_first_not_of("-0.") == std::string::npos) return text + 1;
    return text;
}

}  // namespace

const std::array<const char *, STATISTICS> STATISTIC_NAMES{"side",      "aspect",     "brightness",
                                                           "red_green", "blue_green", "colourfulness",
                                                           "contrast",  "sharpness",  "uniform_share"};

std::array<double, STATISTICS> image_statistics(const Rgb &seen, Size original) {
    const Rgb cells = resize(seen, CELLS, CELLS, Filter::box);
    std::vector<float> brightness, red_green, blue_green, colourfulness;
    for (size_t at = 0; at < cells.size(); at += 3) {
        const float red = cells.data[at], green = cells.data[at + 1], blue = cells.data[at + 2];
        brightness.push_back(red * 0.299f + green * 0.587f + blue * 0.114f);
        red_green.push_back(red - green);
        blue_green.push_back(blue - green);
        colourfulness.push_back(std::max({red, green, blue}) - std::min({red, green, blue}));
    }
    const Plane<uint8_t> grey = grey_of(seen);
    std::array<int64_t, 256> counts{};
    for (size_t at = 0; at < grey.size(); at++) counts[grey.data[at]]++;
    double sum = 0, squares = 0;
    const auto pixels = static_cast<double>(grey.size());
    for (int level = 0; level < 256; level++) sum += static_cast<double>(counts[level]) * level;
    const double mean = sum / pixels;
    int64_t window = 0, fullest = 0;
    for (int level = 0; level < 256; level++) {
        squares += static_cast<double>(counts[level]) * (level - mean) * (level - mean);
        window += counts[level] - (level >= WINDOW ? counts[level - WINDOW] : 0);
        if (level >= WINDOW - 1) fullest = std::max(fullest, window);
    }
    return {std::sqrt(static_cast<double>(original.height) * original.width),
            static_cast<double>(original.width) / original.height,
            middle_mean(brightness),
            middle_mean(red_green),
            middle_mean(blue_green),
            middle_mean(colourfulness),
            std::sqrt(squares / pixels),
            sharpness(grey),
            static_cast<double>(fullest) / pixels};
}

std::string implausible_sentence(const std::string &name, const std::array<double, STATISTICS> &values,
                                 const Plausibility &plausibility) {
    std::string reasons;
    for (int number = 0; number < STATISTICS; number++) {
        const StatisticRange &range = plausibility.ranges[number];
        const double value = values[number];
        if (!(range.low && value < *range.low) && !(range.high && value > *range.high)) continue;
        const auto [phrase, decimals] = FORMS[number];
        const std::string lowest = formatted(range.lowest, decimals), highest = formatted(range.highest, decimals);
        if (!reasons.empty()) reasons += "; ";
        reasons += std::string("its ") + phrase + " is " + formatted(value, decimals) + ", in training " + lowest;
        if (lowest != highest) reasons += " to " + highest;
    }
    if (reasons.empty()) return "";
    return name + " is not a plausible photograph of this set: " + reasons + " (" +
           std::to_string(plausibility.images) + " good photographs).";
}

}  // namespace vqi
