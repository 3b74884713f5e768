#include "model_parts.h"

#include <openvino/op/constant.hpp>
#include <openvino/op/parameter.hpp>

#include "errors.h"

namespace vqi {

namespace {

constexpr const char *FEATURE = "feature_";

std::map<std::string, ov::Output<ov::Node>> named_values(const Model &model, const std::string &prefix) {
    std::map<std::string, ov::Output<ov::Node>> values;
    for (const auto &node : model->get_ordered_ops())
        for (const auto &output : node->outputs())
            for (const std::string &name : output.get_names())
                if (name.compare(0, prefix.size(), prefix) == 0) values[name] = output;
    return values;
}

}  // namespace

std::string note_of(const ov::Model &model, const std::string &key) {
    const std::vector<std::string> path{"vqi", key};
    return model.has_rt_info(path) ? model.get_rt_info<std::string>(path) : "";
}

Model for_one(const Model &model, const Tensors &index) {
    const Model one = model->clone();
    std::map<std::string, ov::PartialShape> shapes;
    ov::PartialShape images = one->input("images").get_partial_shape();
    if (images.rank().is_dynamic() || images.size() != 4) throw BadInput("the graph does not take images");
    images[0] = 1;
    shapes["images"] = images;
    for (const auto &[name, value] : index) shapes[name] = value.get_shape();
    one->reshape(shapes);
    return one;
}

std::pair<Model, Model> split_model(const Model &model) {
    const Model rest = model->clone();
    const auto features = named_values(model, FEATURE);
    if (features.empty()) throw BadInput("the graph names no features");
    ov::OutputVector outputs;
    for (const auto &[name, value] : features) outputs.push_back(value);
    const auto images = ov::as_type_ptr<ov::op::v0::Parameter>(model->input("images").get_node_shared_ptr());
    auto network = std::make_shared<ov::Model>(outputs, ov::ParameterVector{images}, "network");
    ov::ParameterVector inputs;
    for (const auto &[name, value] : named_values(rest, FEATURE)) {
        auto stand_in = std::make_shared<ov::op::v0::Parameter>(value.get_element_type(), value.get_partial_shape());
        stand_in->set_friendly_name(name);
        reconnect(value, stand_in->output(0));
        stand_in->output(0).set_names({name});
        inputs.push_back(stand_in);
    }
    for (const auto &parameter : rest->get_parameters())
        if (parameter->output(0).get_any_name() != "images") inputs.push_back(parameter);
    return {network, std::make_shared<ov::Model>(rest->outputs(), inputs, "rest")};
}

ov::Output<ov::Node> integers(const std::vector<int64_t> &values) {
    return ov::op::v0::Constant::create(ov::element::i64, {values.size()}, values);
}

ov::Output<ov::Node> integer(int64_t value) { return ov::op::v0::Constant::create(ov::element::i64, {}, {value}); }

void reconnect(ov::Output<ov::Node> value, const ov::Output<ov::Node> &other) {
    for (ov::Input<ov::Node> reader : value.get_target_inputs()) reader.replace_source_output(other);
}

}  // namespace vqi
