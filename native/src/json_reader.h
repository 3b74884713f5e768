// Strict reading of a JSON file: every value by its path, which a sentence about it names.
#pragma once

#include <cmath>
#include <functional>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "errors.h"

namespace vqi {

class JsonReader {
public:
    using Json = nlohmann::json;

    JsonReader(const Json &value, std::string file, std::string path = "")
        : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

    [[noreturn]] void refuse(const std::string &why) const {
        throw BadInput(file_ + " is malformed at " + (path_.empty() ? "its root" : path_) + " (" + why +
                       "); export again.");
    }
    // Throws BadInput where the object has a key that is not known here: what it means is not known either.
    const JsonReader &only(std::initializer_list<const char *> keys) const {
        for (const auto &[key, value] : object().items()) {
            bool known = false;
            for (const char *name : keys) known = known || key == name;
            if (!known) at(key.substr(0, 64)).refuse("this version knows no such key");
        }
        return *this;
    }
    bool has(const char *key) const { return object().contains(key) && !object()[key].is_null(); }
    JsonReader operator[](const std::string &key) const {
        const auto found = object().find(key);
        if (found == object().end()) at(key).refuse("it is missing");
        return {*found, file_, below(key)};
    }
    std::vector<JsonReader> items() const {
        if (!value_->is_array()) refuse("it must be a list");
        std::vector<JsonReader> items;
        for (size_t number = 0; number < value_->size(); number++)
            items.emplace_back((*value_)[number], file_, below(std::to_string(number)));
        return items;
    }
    std::vector<std::string> keys() const {
        std::vector<std::string> keys;
        for (const auto &[key, value] : object().items()) keys.push_back(key);
        return keys;
    }
    bool is_null() const { return value_->is_null(); }
    std::string text() const {
        if (!value_->is_string()) refuse("it must be text");
        return value_->get<std::string>();
    }
    bool boolean() const {
        if (!value_->is_boolean()) refuse("it must be true or false");
        return value_->get<bool>();
    }
    int64_t whole(int64_t least, int64_t most) const {
        if (!value_->is_number_integer()) refuse("it must be a whole number");
        const bool fits = !value_->is_number_unsigned() || value_->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
        const int64_t number = fits ? value_->get<int64_t>() : INT64_MAX;
        if (!fits || number < least || number > most)
            refuse("it must lie between " + std::to_string(least) + " and " + std::to_string(most));
        return number;
    }
    double number() const {
        if (!value_->is_number()) refuse("it must be a number");
        const double number = value_->get<double>();
        if (!std::isfinite(number)) refuse("it must be finite");
        return number;
    }
    std::optional<double> optional_number() const { return is_null() ? std::nullopt : std::optional(number()); }
    // Throws BadInput where the value is another than the only one that is known.
    void must_be(const Json &expected) const {
        if (*value_ != expected) refuse("this version knows " + expected.dump() + " alone");
    }

private:
    const Json &object() const {
        if (!value_->is_object()) refuse("it must be an object");
        return *value_;
    }
    std::string below(const std::string &key) const { return path_.empty() ? key : path_ + "." + key; }
    JsonReader at(const std::string &key) const { return {*value_, file_, below(key)}; }

    const Json *value_;
    std::string file_, path_;
};

}  // namespace vqi
