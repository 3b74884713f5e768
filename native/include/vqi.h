/* libvqi: runs an exported bundle on photographs, without Python.
 *
 * Results are those of `vqi predict` with OpenVINO: the same decoding, resizing, graph, thresholds and boxes. What this
 * library does not do as Python does it, it refuses with a sentence (docs/native.md lists what); it never answers
 * something else.
 *
 * Errors. Every function that can fail returns a vqi_status; `vqi_last_error` then holds one sentence. Nothing is
 * printed, no exception leaves the library, and no signal handler is installed.
 *
 * Ownership. `vqi_open` makes a bundle that `vqi_close` frees; `vqi_score_*` make a result that `vqi_free_result`
 * frees. A result is a copy of its own: it outlives its bundle. What a caller hands over (paths, bytes, pixels) is read
 * during the call and never kept. On failure the out-pointer is set to NULL.
 *
 * Threads. Any number of threads may score with one bundle: they decode side by side, and take turns in the graph,
 * which has threads of its own. `vqi_close` must come after the last of them. `vqi_last_error` is kept for each thread.
 */
#ifndef VQI_H
#define VQI_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define VQI_API __attribute__((visibility("default")))
#else
#define VQI_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What `vqi` exits with: 1 = asked for rightly and could not be done, 2 = what was given cannot be used, 3 = the bundle
 * does not score its golden photographs as it did when it was exported. */
typedef int32_t vqi_status;
#define VQI_OK 0
#define VQI_FAILED 1
#define VQI_BAD_INPUT 2
#define VQI_REFUSED 3

/* VQI_IMPLAUSIBLE: the photograph cannot be one of the set that was learnt from (black, blurred, of another size). */
typedef int32_t vqi_decision;
#define VQI_GOOD 0
#define VQI_DEFECT 1
#define VQI_IMPLAUSIBLE 2

/* A bundle, checked and loaded. */
typedef struct vqi_bundle vqi_bundle;

/* All zero: the defaults. */
typedef struct vqi_options {
    /* A format of the bundle by its backend: openvino, openvino-fp16 or openvino-int8; NULL = the first of these that
     * is inside. Its own thresholds go with it, where it has any. */
    const char *backend;
    /* Threads of the graph; 0 = OpenVINO's choice. */
    int32_t threads;
    /* Not 0: a photograph that cannot be one of the set gets the decision of its score. */
    int32_t score_implausible;
    /* Not 0: the golden photographs of the bundle are not scored when it is opened. */
    int32_t skip_golden;
    int32_t reserved_half;
    int64_t reserved[3]; /* these must be 0 */
} vqi_options;

/* What a bundle says of itself; valid until it is closed. */
typedef struct vqi_info {
    const char *name, *method, *backend, *guarantee;
    double threshold; /* an image whose score lies above it is a defect */
    int32_t input_height, input_width;
    int64_t reserved[4];
} vqi_info;

/* A frame in memory: `channels` 1 (grey) or 3 (red, green, blue, interleaved), `bytes_per_channel` 1 or 2 (in the
 * machine's byte order; the bundle's white level says what is white). Rows lie `stride` bytes one after the other; 0 =
 * without a gap. */
typedef struct vqi_frame {
    const void *data;
    int32_t width, height, channels, bytes_per_channel;
    int64_t stride;
} vqi_frame;

/* A marked region, in pixels of the photograph; x2 and y2 lie past the last pixel. `score`: its highest map value. */
typedef struct vqi_box {
    int32_t x1, y1, x2, y2;
    float score;
} vqi_box;

typedef struct vqi_result {
    double score, threshold;
    vqi_decision decision;
    int32_t width, height; /* of the photograph as a viewer shows it */
    size_t box_count;
    const vqi_box *boxes; /* the highest score first */
    /* The anomaly map at the photograph's size, row by row, NaN where the network saw nothing; `level`: what the boxes'
     * regions lie above, infinite where nothing is marked. */
    const float *map;
    double level;
    const char *implausible; /* why the photograph is not one of the set; "" where it is */
    double seconds;          /* in the graph */
    int64_t reserved[4];
} vqi_result;

/* Opens a bundle folder: reads bundle.json, checks every file of the format by its SHA-256, loads the graph, scores the
 * golden photographs that the export left in it and holds their scores against bundle.json. `options` may be NULL. */
VQI_API vqi_status vqi_open(const char *folder, const vqi_options *options, vqi_bundle **bundle);
VQI_API void vqi_close(vqi_bundle *bundle); /* NULL is fine */
VQI_API void vqi_describe(const vqi_bundle *bundle, vqi_info *info);

/* Score one photograph: a file (PNG, JPEG, BMP, TIFF), the bytes of one, or a frame in memory. `name` is what sentences
 * call it.
 */
VQI_API vqi_status vqi_score_file(vqi_bundle *bundle, const char *path, vqi_result **result);
VQI_API vqi_status vqi_score_bytes(vqi_bundle *bundle, const void *data, size_t size, const char *name,
                                   vqi_result **result);
VQI_API vqi_status vqi_score_frame(vqi_bundle *bundle, const vqi_frame *frame, const char *name, vqi_result **result);
VQI_API void vqi_free_result(vqi_result *result); /* NULL is fine */

/* The sentence of this thread's last failure; "" where there was none. Valid until its next call. */
VQI_API const char *vqi_last_error(void);

/* The versions of the library and of OpenVINO, such as "0.1.0 (OpenVINO 2026.4.1)". */
VQI_API const char *vqi_version(void);

#ifdef __cplusplus
}
#endif

#endif
