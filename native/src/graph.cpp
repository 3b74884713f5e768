#include "graph.h"

#include <cstring>
#include <fstream>
#include <openvino/openvino.hpp>
#include <sstream>

#include "errors.h"
#include "files.h"
#include "model_parts.h"
#include "tensors.h"

namespace vqi {

struct Graph::Loaded {
    ov::Core core;
    std::string backend;
    ov::InferRequest scoring;
    ov::InferRequest network;  // empty where the graph runs whole
    std::vector<std::string> features;
    Tensors tensors;
    ov::Tensor images;
};

namespace {

// Whether this processor multiplies and adds up int8 in one instruction.
bool int8_instructions() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
        if (line.compare(0, 5, "flags") != 0) continue;
        std::istringstream words(line);
        for (std::string word; words >> word;)
            if (word == "avx512_vnni" || word == "avx_vnni") return true;
        return false;
    }
    return false;
}

// As vqi.deployment.exports.openvino opens it for one image.
Assembled assemble(const Model &model, Tensors index) {
    if (note_of(*model, "neighbours") == "preselected" && int8_instructions())
        if (auto preselected = with_preselection(model, index)) return *preselected;
    if (searches(model)) return {model, std::move(index)};
    if (auto blocks = with_triangular_blocks(model, index))
        return {for_one(blocks->model, blocks->tensors), blocks->tensors};
    return {for_one(model, index), std::move(index)};
}

// Runs something of OpenVINO's, whose exceptions become `prefix` and one line.
template <typename Work>
auto guarded(const std::string &prefix, Work work) {
    try {
        return work();
    } catch (const BadInput &) {
        throw;
    } catch (const RunFailed &) {
        throw;
    } catch (const std::exception &error) {
        throw RunFailed(prefix + " (" + one_line(error.what()) + "); export again, or use vqi predict.");
    }
}

}  // namespace

Graph::Graph(const std::string &folder, const Sidecar &sidecar, int threads) : loaded_(std::make_unique<Loaded>()) {
    const auto read = [&](const std::string &name) { return read_bundle_file(folder, name, sidecar.files.at(name)); };
    Tensors index;
    if (!sidecar.index.empty()) index = read_tensors(read(INDEX), sidecar.index, folder + "/" + INDEX);
    const std::vector<uint8_t> xml = read(sidecar.model), bin = read(sidecar.backend + "/model.bin");
    ov::Tensor weights(ov::element::u8, {bin.size()});
    if (!bin.empty()) std::memcpy(weights.data(), bin.data(), bin.size());

    Loaded &loaded = *loaded_;
    loaded.backend = sidecar.backend;
    guarded("The format " + sidecar.backend + " of the bundle " + folder + " cannot be opened", [&] {
        const Model model = loaded.core.read_model(std::string(xml.begin(), xml.end()), weights);
        ov::AnyMap properties{ov::hint::inference_precision(ov::element::f32),
                              ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY)};
        if (threads > 0) properties.insert(ov::inference_num_threads(threads));
        const bool reduced = note_of(*model, "precision") == "bfloat16";
        const Assembled assembled = assemble(model, std::move(index));
        Model scoring = assembled.model;
        if (reduced) {
            const auto [network, rest] = split_model(assembled.model);
            ov::AnyMap lower = properties;
            lower[ov::hint::inference_precision.name()] = ov::element::bf16;
            ov::CompiledModel compiled = loaded.core.compile_model(network, "CPU", lower);
            if (compiled.get_property(ov::hint::inference_precision) != ov::element::bf16)
                throw BadInput(
                    "The network of this bundle computes in bfloat16, in which this processor does not, so that "
                    "its thresholds would not hold; export again in float32.");
            loaded.network = compiled.create_infer_request();
            for (const auto &output : compiled.outputs()) loaded.features.push_back(output.get_any_name());
            scoring = rest;
        }
        loaded.scoring = loaded.core.compile_model(scoring, "CPU", properties).create_infer_request();
        loaded.tensors = assembled.tensors;
        for (const auto &[name, value] : loaded.tensors) loaded.scoring.set_tensor(name, value);
        const Size size = sidecar.geometry.input_size();
        loaded.images =
            ov::Tensor(ov::element::f32, {1, 3, static_cast<size_t>(size.height), static_cast<size_t>(size.width)});
        (loaded.features.empty() ? loaded.scoring : loaded.network).set_tensor("images", loaded.images);
    });
}

Graph::~Graph() = default;

std::pair<double, Map> Graph::run(const Rgb &image) {
    Loaded &loaded = *loaded_;
    float *out = loaded.images.data<float>();
    const size_t pixels = static_cast<size_t>(image.width) * image.height;
    for (size_t at = 0; at < pixels; at++)
        for (size_t channel = 0; channel < 3; channel++)
            out[channel * pixels + at] = static_cast<float>(image.data[3 * at + channel]) / 255.0f;
    return guarded(loaded.backend + " failed", [&] {
        if (!loaded.features.empty()) {
            loaded.network.infer();
            for (const std::string &name : loaded.features)
                loaded.scoring.set_tensor(name, loaded.network.get_tensor(name));
        }
        loaded.scoring.infer();
        const ov::Tensor score = loaded.scoring.get_tensor("score"), map = loaded.scoring.get_tensor("map");
        const ov::Shape expected{1, static_cast<size_t>(image.height), static_cast<size_t>(image.width)};
        if (score.get_shape() != ov::Shape{1} || map.get_shape() != expected)
            throw RunFailed(loaded.backend +
                            " answered with a score and a map of another shape than the sidecar's; export "
                            "again.");
        Map values(image.width, image.height);
        std::memcpy(values.data.get(), map.data<float>(), values.size() * sizeof(float));
        return std::pair(static_cast<double>(score.data<float>()[0]), std::move(values));
    });
}

std::string openvino_version() {
    const ov::Version version = ov::get_openvino_version();
    const std::string text = version.buildNumber;
    return text.substr(0, text.find('-'));
}

}  // namespace vqi
