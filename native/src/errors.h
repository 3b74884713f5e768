// The errors a caller meets: one sentence each. What they are is in components/vqi/platform/errors.py.
#pragma once

#include <stdexcept>
#include <string>

namespace vqi {

struct BadInput : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct RunFailed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A bundle that scores otherwise than when it was exported.
struct GateRefused : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A message of a library on one line, at most 300 characters, without a full stop.
std::string one_line(const std::string &message);

}  // namespace vqi
