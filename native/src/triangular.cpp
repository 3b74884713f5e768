// Batched products with lower triangular factors, node for node those of
// components/vqi/deployment/exports/triangular.py, which says why.
#include <algorithm>
#include <openvino/opsets/opset13.hpp>

#include "model_parts.h"

namespace vqi {

namespace {

namespace op = ov::opset13;
using Value = ov::Output<ov::Node>;

constexpr size_t BLOCKS = 2;

// The product of factors [P, d, d] with vectors [P, d, N] whose lengths alone are read; null where there is none.
std::shared_ptr<op::MatMul> product_of(const Value &factors) {
    const auto readers = factors.get_target_inputs();
    if (readers.size() != 1 || factors.get_partial_shape().size() != 3) return nullptr;
    const auto product = ov::as_type_ptr<op::MatMul>(readers.begin()->get_node()->shared_from_this());
    if (!product || product->input_value(0) != factors || product->get_transpose_a() || product->get_transpose_b())
        return nullptr;
    const auto onward = product->output(0).get_target_inputs();
    if (onward.size() != 1) return nullptr;
    const auto length = ov::as_type_ptr<op::ReduceL2>(onward.begin()->get_node()->shared_from_this());
    if (!length || length->get_keep_dims()) return nullptr;
    const auto axis = ov::as_type_ptr<op::Constant>(length->get_input_node_shared_ptr(1));
    return axis && axis->cast_vector<int64_t>() == std::vector<int64_t>{1} ? product : nullptr;
}

bool is_triangular(const ov::Tensor &factors) {
    const ov::Shape &shape = factors.get_shape();
    if (factors.get_element_type() != ov::element::f32 || shape.size() != 3 || shape[1] != shape[2] ||
        shape[1] < BLOCKS)
        return false;
    const float *row = factors.data<float>();
    for (size_t number = 0; number < shape[0] * shape[1]; number++, row += shape[2])
        if (std::any_of(row + number % shape[1] + 1, row + shape[2], [](float value) { return value != 0; }))
            return false;
    return true;
}

// factors[:, start:end, :end], its last two axes exchanged.
ov::Tensor block_of(const ov::Tensor &factors, size_t start, size_t end) {
    const size_t positions = factors.get_shape()[0], side = factors.get_shape()[1];
    ov::Tensor block(ov::element::f32, {positions, end, end - start});
    const float *in = factors.data<float>();
    float *out = block.data<float>();
    for (size_t position = 0; position < positions; position++, in += side * side)
        for (size_t column = 0; column < end; column++)
            for (size_t row = start; row < end; row++) *out++ = in[row * side + column];
    return block;
}

}  // namespace

std::optional<Assembled> with_triangular_blocks(const Model &given, const Tensors &index) {
    const Model model = given->clone();
    Assembled assembled{nullptr, index};
    ov::ParameterVector inputs = model->get_parameters();
    for (const auto &[name, factors] : index) {
        const Value input = model->input(name);
        const auto product = product_of(input);
        if (!product || !is_triangular(factors)) continue;
        const auto length = product->output(0).get_target_inputs().begin()->get_node()->shared_from_this();
        const Value vectors = std::make_shared<op::Transpose>(product->input_value(1), integers({0, 2, 1}));
        const size_t rows = factors.get_shape()[1];
        Value squares;
        for (size_t number = 0; number < BLOCKS; number++) {
            const size_t start = rows * number / BLOCKS, end = rows * (number + 1) / BLOCKS;
            const std::string block = name + "_" + std::to_string(number);
            assembled.tensors[block] = block_of(factors, start, end);
            const auto parameter =
                std::make_shared<op::Parameter>(ov::element::f32, assembled.tensors[block].get_shape());
            parameter->set_friendly_name(block);
            parameter->output(0).set_names({block});
            inputs.push_back(parameter);
            const Value part = std::make_shared<op::Slice>(
                vectors, integers({0}), integers({static_cast<int64_t>(end)}), integers({1}), integers({2}));
            const Value lengths = std::make_shared<op::ReduceL2>(
                std::make_shared<op::MatMul>(part, parameter, false, false), integers({2}), false);
            const Value square = std::make_shared<op::Multiply>(lengths, lengths);
            squares = number == 0 ? square : Value(std::make_shared<op::Add>(squares, square));
        }
        reconnect(length->output(0), std::make_shared<op::Sqrt>(squares));
        assembled.tensors.erase(name);
        inputs.erase(std::find(inputs.begin(), inputs.end(), input.get_node_shared_ptr()));
    }
    if (inputs == model->get_parameters()) return std::nullopt;
    const ov::OutputVector results{model->output("score"), model->output("map")};
    assembled.model = std::make_shared<ov::Model>(results, inputs, model->get_friendly_name());
    return assembled;
}

}  // namespace vqi
