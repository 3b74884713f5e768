/* Scores photographs with a bundle: score BUNDLE PHOTOGRAPH...
 *
 * cc score.c -lvqi -o score */
#include <stdio.h>
#include <vqi.h>

int main(int count, char **arguments) {
    static const char *const decisions[] = {"good", "defect", "implausible"};
    vqi_bundle *bundle;
    vqi_info info;
    int number, code = 0;

    if (count < 3) {
        fprintf(stderr, "usage: score BUNDLE PHOTOGRAPH...\n");
        return 2;
    }
    if (vqi_open(arguments[1], NULL, &bundle) != VQI_OK) {
        fprintf(stderr, "%s\n", vqi_last_error());
        return 1;
    }
    vqi_describe(bundle, &info);
    printf("%s by %s, a defect above %g\n", info.name, info.method, info.threshold);
    for (number = 2; number < count; number++) {
        vqi_result *result;
        size_t box;

        if (vqi_score_file(bundle, arguments[number], &result) != VQI_OK) {
            fprintf(stderr, "%s\n", vqi_last_error());
            code = 1;
            continue;
        }
        printf("%s: %s, score %g\n", arguments[number], decisions[result->decision], result->score);
        for (box = 0; box < result->box_count; box++)
            printf("  from %d, %d to %d, %d: %g\n", result->boxes[box].x1, result->boxes[box].y1, result->boxes[box].x2,
                   result->boxes[box].y2, result->boxes[box].score);
        vqi_free_result(result);
    }
    vqi_close(bundle);
    return code;
}
