// Parts of an OpenVINO model, and the ways it is made quicker before it runs, as Python does
// (components/vqi/deployment/exports, components/vqi/detectors/graph_split.py).
#pragma once

#include <map>
#include <memory>
#include <openvino/core/model.hpp>
#include <openvino/runtime/tensor.hpp>
#include <optional>
#include <string>
#include <utility>

namespace vqi {

using Model = std::shared_ptr<ov::Model>;
using Tensors = std::map<std::string, ov::Tensor>;

// A model, and the tensors that go in beside the images.
struct Assembled {
    Model model;
    Tensors tensors;
};

// What a model says of itself under "vqi"; "" where it says nothing.
std::string note_of(const ov::Model &model, const std::string &key);

// The model for a single image, with the sizes of the index.
Model for_one(const Model &model, const Tensors &index);

// The network (images -> features), and the rest.
std::pair<Model, Model> split_model(const Model &model);

// Whether a model searches for nearest neighbours; and the same for one image with the index inside, searching by a
// pre-selection in eight bits: nothing where there is nothing to gain.
bool searches(const Model &model);
std::optional<Assembled> with_preselection(const Model &model, const Tensors &index);

// The lengths of products with lower triangular factors by blocks; nothing where it has no such product.
std::optional<Assembled> with_triangular_blocks(const Model &model, const Tensors &index);

// A constant of whole numbers.
ov::Output<ov::Node> integers(const std::vector<int64_t> &values);
ov::Output<ov::Node> integer(int64_t value);

// Lets everyone who reads `value` read `other`.
void reconnect(ov::Output<ov::Node> value, const ov::Output<ov::Node> &other);

}  // namespace vqi
