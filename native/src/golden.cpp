#include "golden.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "errors.h"
#include "tensors.h"

namespace vqi {

namespace {

// numpy's: the mean of the two in the middle where their number is even.
double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const size_t middle = values.size() / 2;
    return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::string short_number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2g", value);
    return text;
}

// The photographs, uint8 [n, h, w, 3] of the input size.
ov::Tensor read_golden(const std::string &folder, const Sidecar &sidecar) {
    const Size size = sidecar.geometry.input_size();
    const std::vector<size_t> shape{sidecar.golden.size(), static_cast<size_t>(size.height),
                                    static_cast<size_t>(size.width), 3};
    const std::string path = folder + "/" + GOLDEN;
    const std::vector<uint8_t> file = read_bundle_file(folder, GOLDEN, sidecar.files.at(GOLDEN));
    try {
        return read_tensors(file, {{"images", "uint8", shape}}, path).at("images");
    } catch (const BadInput &) {
        throw BadInput(path + " does not hold the golden photographs that its bundle.json names; export again.");
    }
}

}  // namespace

void check_golden(const std::string &folder, const Sidecar &sidecar, Graph &graph) {
    if (sidecar.golden.empty()) return;
    const ov::Tensor photographs = read_golden(folder, sidecar);
    const Size size = sidecar.geometry.input_size();
    std::vector<double> magnitudes;
    for (double expected : sidecar.golden) magnitudes.push_back(std::abs(expected));
    const double scale = std::max(median(magnitudes), static_cast<double>(std::numeric_limits<float>::min()));
    double largest = 0;
    for (size_t number = 0; number < sidecar.golden.size(); number++) {
        Rgb image(size.width, size.height, 3);
        std::memcpy(image.data.get(), photographs.data<uint8_t>() + number * image.size(), image.size());
        const double expected = sidecar.golden[number];
        const double deviation = std::abs(graph.run(image).first - expected) / std::max(std::abs(expected), scale);
        // One that is not a number is the largest.
        if (!(deviation <= largest))
            largest = std::isfinite(deviation) ? deviation : std::numeric_limits<double>::infinity();
    }
    if (!(largest <= sidecar.tolerance))
        throw GateRefused(
            "The bundle " + folder + " does not score its golden photographs as it did when it was exported: by " +
            sidecar.backend + " the largest deviation is " + short_number(largest) + ", the tolerance " +
            short_number(sidecar.tolerance) + "; use the versions that its bundle.json names, or export again.");
}

}  // namespace vqi
