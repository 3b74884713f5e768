/* Sanitizers end a program that opens a library with RTLD_DEEPBIND, as TBB does: programs with them open it without. */
#define _GNU_SOURCE
#include <dlfcn.h>

void *dlopen(const char *file, int flags) {
    void *(*open)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
    return open(file, flags & ~RTLD_DEEPBIND);
}
