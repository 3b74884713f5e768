#include "predictor.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>

#include "boxes.h"
#include "errors.h"
#include "files.h"
#include "golden.h"

namespace vqi {

namespace {

constexpr uint64_t LARGEST_PHOTOGRAPH = 1 << 30;

template <typename Value>
Plane<Value> values_of(const vqi_frame &frame) {
    Plane<Value> values(frame.width, frame.height, frame.channels);
    const size_t row = values.row_size() * sizeof(Value);
    const auto stride = frame.stride ? static_cast<size_t>(frame.stride) : row;
    for (int y = 0; y < frame.height; y++)
        std::memcpy(values.row(y), static_cast<const uint8_t *>(frame.data) + y * stride, row);
    return values;
}

}  // namespace

Predictor::Predictor(const std::string &folder, const Choices &choices)
    : sidecar_(read_sidecar(folder, choices.backend)),
      graph_(folder, sidecar_, choices.threads),
      score_implausible_(choices.score_implausible) {
    if (!choices.skip_golden) check_golden(folder, sidecar_, graph_);
}

Prediction Predictor::predict_file(const std::string &path) {
    const std::vector<uint8_t> data = read_file(path, LARGEST_PHOTOGRAPH);
    return predict_bytes({data.data(), data.size()}, path);
}

Prediction Predictor::predict_bytes(const Bytes &bytes, const std::string &name) {
    return predict(decode(bytes, name, sidecar_.decoding, profiles_), name);
}

Prediction Predictor::predict_frame(const vqi_frame &frame, const std::string &name) {
    const int64_t row = int64_t{frame.width} * frame.channels * frame.bytes_per_channel;
    if (!frame.data || frame.width < 1 || frame.height < 1 || (frame.channels != 1 && frame.channels != 3) ||
        (frame.bytes_per_channel != 1 && frame.bytes_per_channel != 2) || (frame.stride && frame.stride < row))
        throw BadInput(
            name +
            " is not a frame: it must have data, a width and a height, 1 channel or 3, 1 byte a channel or 2, "
            "and rows that do not overlap.");
    check_pixels(name, frame.width, frame.height, sidecar_.decoding);
    if (frame.bytes_per_channel == 2)
        return predict(to_rgb(values_of<uint16_t>(frame), sidecar_.decoding.white_level), name);
    return predict(to_rgb(values_of<uint8_t>(frame)), name);
}

Prediction Predictor::predict(const Rgb &photograph, const std::string &name) {
    const Geometry &geometry = sidecar_.geometry;
    const Size original{photograph.height, photograph.width};
    const Rgb seen = geometry.apply(photograph, name);
    Prediction prediction{};
    prediction.implausible = implausible_sentence(name, image_statistics(seen, original), sidecar_.plausibility);

    Map map;
    {
        const std::lock_guard<std::mutex> turn(graph_turn_);
        const auto started = std::chrono::steady_clock::now();
        if (geometry.tiling) {
            std::vector<Map> maps;
            prediction.score = -std::numeric_limits<double>::infinity();
            for (size_t number = 0; number < geometry.tiling->corners().size(); number++) {
                auto [score, values] = graph_.run(geometry.tiling->cut(seen, number));
                // One that is not a number stays.
                if (!(score <= prediction.score))
                    prediction.score = std::isnan(prediction.score) ? prediction.score : score;
                maps.push_back(std::move(values));
            }
            map = geometry.tiling->blend(maps);
        } else {
            auto [score, values] = graph_.run(seen);
            prediction.score = score;
            map = std::move(values);
        }
        prediction.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    }
    if (!std::isfinite(prediction.score))
        throw BadInput(name +
                       " has a score that is not finite, which decides nothing; look at the image and export again.");
    const bool defect = prediction.score > sidecar_.thresholds.image;
    prediction.threshold = sidecar_.thresholds.image;
    prediction.map = geometry.invert_map(map, original);
    prediction.level = marking_level(prediction.map, defect, sidecar_.box_fraction, sidecar_.thresholds.pixel);
    prediction.boxes = find_boxes(prediction.map, prediction.level);
    prediction.decision = defect ? VQI_DEFECT : VQI_GOOD;
    if (!prediction.implausible.empty() && !score_implausible_) prediction.decision = VQI_IMPLAUSIBLE;
    return prediction;
}

}  // namespace vqi
