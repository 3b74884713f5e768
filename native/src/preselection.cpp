// The search for nearest neighbours by a pre-selection in eight bits: node for node that of
// components/vqi/deployment/exports/preselection.py, which says why.
#include <algorithm>
#include <cmath>
#include <functional>
#include <openvino/opsets/opset13.hpp>

#include "model_parts.h"

namespace vqi {

namespace {

namespace op = ov::opset13;
using Value = ov::Output<ov::Node>;

constexpr int MORE = 5, FEWEST_GROUPS = 8, MORE_COLUMNS = 3, FEWEST = 64, MOST = 256, LEAST_BANK = 256;
constexpr int64_t TILE = 1 << 22;
constexpr float RANGE = 1.5f, FAR = 1e30f, LEAST_RANGE = 1e-6f;

struct Search {
    std::shared_ptr<ov::Node> bank;
    Value queries;
    int64_t wanted;
    Value distances, items;
};

bool is_a(const std::shared_ptr<ov::Node> &node, const char *type) {
    return std::string(node->get_type_name()) == type;
}

// The first node of a type among what reads a value, and what reads that.
std::shared_ptr<ov::Node> below(const Value &value, const char *type, int depth) {
    for (const auto &reader : value.get_target_inputs()) {
        const auto node = reader.get_node()->shared_from_this();
        if (is_a(node, type)) return node;
        if (depth == 1) continue;
        for (const auto &output : node->outputs())
            if (const auto found = below(output, type, depth - 1)) return found;
    }
    return nullptr;
}

std::optional<Search> search_of(const std::shared_ptr<ov::Node> &node) {
    const auto topk = std::dynamic_pointer_cast<ov::op::util::TopKBase>(node);
    if (!topk || topk->get_mode() != ov::op::TopKMode::MIN) return std::nullopt;
    std::shared_ptr<ov::Node> product = node;
    for (int depth = 0; depth < 3 && product->get_input_size() > 0; depth++) {
        product = product->get_input_node_shared_ptr(0);
        if (is_a(product, "MatMul")) break;
    }
    if (!is_a(product, "MatMul")) return std::nullopt;
    auto bank = product->get_input_node_shared_ptr(1);
    if (is_a(bank, "Transpose")) bank = bank->get_input_node_shared_ptr(0);
    const auto count = ov::as_type_ptr<op::Constant>(node->get_input_node_shared_ptr(1));
    const auto distances = below(node->output(1), "ReduceL2", 4);
    if (!is_a(bank, "Parameter") || !count || !distances) return std::nullopt;
    return Search{bank, product->input_value(0), count->cast_vector<int64_t>().at(0), distances->output(0),
                  node->output(1)};
}

std::vector<Search> searches_of(const Model &model) {
    std::vector<Search> searches;
    for (const auto &node : model->get_ordered_ops())
        if (is_a(node, "TopK"))
            if (const auto search = search_of(node)) searches.push_back(*search);
    return searches;
}

Value floats(const ov::Shape &shape, const std::vector<float> &values) {
    return std::make_shared<op::Constant>(ov::element::f32, shape, values.data());
}

Value reshaped(const Value &values, const std::vector<int64_t> &shape) {
    return std::make_shared<op::Reshape>(values, integers(shape), false);
}

Value transposed(const Value &values, const std::vector<int64_t> &order) {
    return std::make_shared<op::Transpose>(values, integers(order));
}

// In int8: 255 levels are symmetric, 256 have one more below.
Value rounded(const Value &values, const ov::Shape &shape, std::vector<float> largest, int levels) {
    std::vector<float> least(largest.size());
    const auto stretch = static_cast<float>(levels == 256 ? 128.0 / 127.0 : 1.0);
    std::transform(largest.begin(), largest.end(), least.begin(), [&](float value) { return -value * stretch; });
    const Value low = floats(shape, least), high = floats(shape, largest);
    return std::make_shared<op::FakeQuantize>(values, low, high, low, high, levels);
}

std::vector<Value> split(const Value &values, const std::vector<int64_t> &lengths) {
    if (lengths.size() == 1) return {values};
    return std::make_shared<op::VariadicSplit>(values, integer(0), integers(lengths))->outputs();
}

std::shared_ptr<op::TopK> least(const Value &values, int64_t count,
                                ov::op::TopKSortType order = ov::op::TopKSortType::NONE) {
    return std::make_shared<op::TopK>(values, integer(count), 0, ov::op::TopKMode::MIN, order, ov::element::i32);
}

// [a, b] -> [b, a], in the form that OpenVINO has a quick kernel for.
Value turned(const Value &values) {
    const auto rows = static_cast<int64_t>(values.get_shape()[0]),
               columns = static_cast<int64_t>(values.get_shape()[1]);
    return reshaped(transposed(reshaped(values, {1, rows, 1, columns}), {0, 3, 1, 2}), {columns, rows});
}

int64_t groups_of(size_t items) {
    const double power = std::nearbyint(std::log2(static_cast<double>(items) / 16) / 2);
    return std::max<int64_t>(FEWEST_GROUPS, power > 0 ? int64_t{1} << static_cast<int>(power) : 0);
}

Value candidates_of(const Value &values, int64_t groups, int64_t columns, int64_t count) {
    const auto rows = static_cast<int64_t>(values.get_shape()[0]);
    const int64_t length = static_cast<int64_t>(values.get_shape()[1]) / groups;
    const Value dealt = reshaped(values, {rows, groups, length});
    const Value smallest = turned(std::make_shared<op::ReduceMin>(dealt, integers({1}), false));
    const Value best = least(smallest, columns)->output(1);
    const Value of_query = std::make_shared<op::Unsqueeze>(transposed(best, {1, 0}), integers({1}));
    const Value members = std::make_shared<op::Broadcast>(of_query, integers({rows, groups, columns}));
    const Value kept = reshaped(std::make_shared<op::GatherElements>(dealt, members, 2), {rows, groups * columns});
    std::vector<int32_t> starts(groups);
    for (int64_t group = 0; group < groups; group++) starts[group] = static_cast<int32_t>(group * length);
    const Value firsts =
        std::make_shared<op::Constant>(ov::element::i32, ov::Shape{starts.size(), 1, 1}, starts.data());
    Value numbers = std::make_shared<op::Add>(std::make_shared<op::Unsqueeze>(best, integers({0})), firsts);
    numbers = reshaped(numbers, {groups * columns, rows});
    const Value chosen = std::make_shared<op::GatherElements>(numbers, least(turned(kept), count)->output(1), 0);
    return transposed(chosen, {1, 0});
}

std::pair<Value, Value> exactly(const Value &queries, const Value &bank, const Value &candidates, int64_t count) {
    const Value items = std::make_shared<op::Gather>(bank, candidates, integer(0));
    const Value difference =
        std::make_shared<op::Subtract>(std::make_shared<op::Unsqueeze>(queries, integers({1})), items);
    const Value distances = transposed(std::make_shared<op::ReduceL2>(difference, integers({2}), false), {1, 0});
    const auto first = least(distances, count, ov::op::TopKSortType::SORT_VALUES);
    const Value numbers = std::make_shared<op::GatherElements>(transposed(candidates, {1, 0}), first->output(1), 0);
    return {transposed(first->output(0), {1, 0}), transposed(numbers, {1, 0})};
}

std::pair<Value, Value> nearest(const Value &queries, const ov::Tensor &bank, int64_t count) {
    const size_t items = bank.get_shape()[0], width = bank.get_shape()[1];
    const float *in = bank.data<float>();
    std::vector<double> sums(width, 0.0);
    for (size_t item = 0; item < items; item++)
        for (size_t at = 0; at < width; at++) sums[at] += in[item * width + at];
    std::vector<float> mean(width);
    for (size_t at = 0; at < width; at++) mean[at] = static_cast<float>(sums[at] / static_cast<double>(items));
    const int64_t groups = groups_of(items), length = (static_cast<int64_t>(items) + groups - 1) / groups;
    const auto padded = static_cast<size_t>(groups * length);
    std::vector<float> norms(padded, FAR), doubled(padded * width, 0.0f), ranges(padded, LEAST_RANGE);
    float furthest = 0.0f;
    for (size_t item = 0; item < items; item++) {
        double norm = 0.0;
        for (size_t at = 0; at < width; at++) {
            const float centred = in[item * width + at] - mean[at];
            doubled[item * width + at] = -2 * centred;
            ranges[item] = std::max(ranges[item], std::abs(2 * centred));
            furthest = std::max(furthest, std::abs(centred));
            norm += static_cast<double>(centred) * centred;
        }
        norms[item] = static_cast<float>(norm);
    }
    const Value weights = rounded(floats({padded, width}, doubled), {padded, 1}, ranges, 255);
    Value points = std::make_shared<op::Subtract>(queries, floats({1, width}, mean));
    points = rounded(points, {1, 1}, {std::max(RANGE * furthest, LEAST_RANGE)}, 256);

    const auto rows = static_cast<int64_t>(queries.get_shape()[0]);
    const int64_t tile = std::min<int64_t>(std::max<int64_t>(TILE / (4 * static_cast<int64_t>(padded)), FEWEST), MOST);
    const int64_t tiles = (rows + tile - 1) / tile;
    std::vector<int64_t> lengths(tiles);
    for (int64_t number = 0; number < tiles; number++)
        lengths[number] = rows * (number + 1) / tiles - rows * number / tiles;
    const Value exact = std::make_shared<op::Constant>(bank), distance = floats({1, padded}, norms);
    const std::vector<Value> parts = split(points, lengths), vectors = split(queries, lengths);
    ov::OutputVector distances, numbers;
    for (size_t part = 0; part < parts.size(); part++) {
        const Value values =
            std::make_shared<op::Add>(std::make_shared<op::MatMul>(parts[part], weights, false, true), distance);
        const int64_t columns = std::min<int64_t>(count + MORE_COLUMNS, length);
        const Value candidates =
            candidates_of(values, groups, columns, std::min<int64_t>(count + MORE, columns * groups));
        const auto [near, which] = exactly(vectors[part], exact, candidates, count);
        distances.push_back(near);
        numbers.push_back(which);
    }
    return {std::make_shared<op::Concat>(distances, 0), std::make_shared<op::Concat>(numbers, 0)};
}

}  // namespace

bool searches(const Model &model) { return !searches_of(model).empty(); }

std::optional<Assembled> with_preselection(const Model &model, const Tensors &index) {
    const Model one = for_one(model, index);
    bool replaced = false;
    for (const Search &search : searches_of(one)) {
        const ov::Tensor &bank = index.at(search.bank->output(0).get_any_name());
        if (search.queries.get_shape()[0] < FEWEST || bank.get_shape()[0] < LEAST_BANK) continue;
        const auto readers_of_distances = search.distances.get_target_inputs(),
                   readers_of_items = search.items.get_target_inputs();
        const auto [distances, numbers] = nearest(search.queries, bank, search.wanted);
        const Value items = std::make_shared<op::Convert>(numbers, ov::element::i64);
        for (ov::Input<ov::Node> reader : readers_of_distances) reader.replace_source_output(distances);
        for (ov::Input<ov::Node> reader : readers_of_items) reader.replace_source_output(items);
        replaced = true;
    }
    if (!replaced) return std::nullopt;
    for (const auto &[name, value] : index) reconnect(one->input(name), std::make_shared<op::Constant>(value));
    const auto images = ov::as_type_ptr<op::Parameter>(one->input("images").get_node_shared_ptr());
    const ov::OutputVector results{one->output("score"), one->output("map")};
    return Assembled{std::make_shared<ov::Model>(results, ov::ParameterVector{images}, one->get_friendly_name()), {}};
}

}  // namespace vqi
