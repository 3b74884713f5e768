// The C face of the library.
#include "vqi.h"

#include <memory>
#include <new>

#include "errors.h"
#include "predictor.h"

struct vqi_bundle {
    vqi::Predictor predictor;
};

namespace {

thread_local std::string last_error;

// A result, and what its pointers lead to.
struct Result : vqi_result {
    vqi::Prediction prediction;

    explicit Result(vqi::Prediction &&made) : vqi_result{}, prediction(std::move(made)) {
        score = prediction.score;
        threshold = prediction.threshold;
        decision = prediction.decision;
        width = prediction.map.width;
        height = prediction.map.height;
        box_count = prediction.boxes.size();
        boxes = prediction.boxes.data();
        map = prediction.map.data.get();
        level = prediction.level;
        implausible = prediction.implausible.c_str();
        seconds = prediction.seconds;
    }
};

// Nothing is thrown through C: whatever happens becomes a status and a sentence.
template <typename Work>
vqi_status guarded(Work work) noexcept {
    try {
        last_error.clear();
        work();
        return VQI_OK;
    } catch (const vqi::BadInput &error) {
        last_error = error.what();
        return VQI_BAD_INPUT;
    } catch (const vqi::GateRefused &error) {
        last_error = error.what();
        return VQI_REFUSED;
    } catch (const std::bad_alloc &) {
        last_error = "The memory of this machine does not suffice; use smaller photographs or fewer threads.";
    } catch (const std::exception &error) {
        last_error = error.what();
    } catch (...) {
        last_error = "An unknown error occurred.";
    }
    return VQI_FAILED;
}

template <typename Work>
vqi_status scored(vqi_bundle *bundle, vqi_result **result, Work work) noexcept {
    if (result) *result = nullptr;
    return guarded([&] {
        if (!bundle || !result)
            throw vqi::BadInput("A bundle and the address of a result must be given, and one is NULL.");
        *result = new Result(work(bundle->predictor));
    });
}

std::string name_of(const char *name) { return name && *name ? name : "the photograph"; }

}  // namespace

vqi_status vqi_open(const char *folder, const vqi_options *options, vqi_bundle **bundle) {
    if (bundle) *bundle = nullptr;
    return guarded([&] {
        if (!folder || !bundle)
            throw vqi::BadInput("A folder and the address of a bundle must be given, and one is NULL.");
        const vqi_options chosen = options ? *options : vqi_options{};
        for (int64_t reserved :
             {int64_t{chosen.reserved_half}, chosen.reserved[0], chosen.reserved[1], chosen.reserved[2]})
            if (reserved) throw vqi::BadInput("The reserved options must be 0.");
        if (chosen.threads < 0 || chosen.threads > 4096)
            throw vqi::BadInput("The threads are " + std::to_string(chosen.threads) +
                                "; they must lie between 0 and 4096.");
        const vqi::Choices choices{chosen.backend ? chosen.backend : "", chosen.threads, chosen.score_implausible != 0,
                                   chosen.skip_golden != 0};
        *bundle = new vqi_bundle{{folder, choices}};
    });
}

void vqi_close(vqi_bundle *bundle) { delete bundle; }

void vqi_describe(const vqi_bundle *bundle, vqi_info *info) {
    const vqi::Sidecar &sidecar = bundle->predictor.sidecar();
    const vqi::Size size = sidecar.geometry.input_size();
    *info = {sidecar.name.c_str(),
             sidecar.method.c_str(),
             sidecar.backend.c_str(),
             sidecar.guarantee.c_str(),
             sidecar.thresholds.image,
             size.height,
             size.width,
             {}};
}

vqi_status vqi_score_file(vqi_bundle *bundle, const char *path, vqi_result **result) {
    return scored(bundle, result, [&](vqi::Predictor &predictor) {
        if (!path) throw vqi::BadInput("A path must be given, and it is NULL.");
        return predictor.predict_file(path);
    });
}

vqi_status vqi_score_bytes(vqi_bundle *bundle, const void *data, size_t size, const char *name, vqi_result **result) {
    return scored(bundle, result, [&](vqi::Predictor &predictor) {
        if (!data) throw vqi::BadInput("Bytes must be given, and they are NULL.");
        return predictor.predict_bytes({static_cast<const uint8_t *>(data), size}, name_of(name));
    });
}

vqi_status vqi_score_frame(vqi_bundle *bundle, const vqi_frame *frame, const char *name, vqi_result **result) {
    return scored(bundle, result, [&](vqi::Predictor &predictor) {
        if (!frame) throw vqi::BadInput("A frame must be given, and it is NULL.");
        return predictor.predict_frame(*frame, name_of(name));
    });
}

void vqi_free_result(vqi_result *result) { delete static_cast<Result *>(result); }

const char *vqi_last_error(void) { return last_error.c_str(); }

const char *vqi_version(void) {
    static const std::string version = VQI_VERSION " (OpenVINO " + vqi::openvino_version() + ")";
    return version.c_str();
}
