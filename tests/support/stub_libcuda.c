/* A libcuda that does nothing but write down its calls, one a line, to the file $STUB_LOG. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef STUB_QUIET /* for benches */
#define CALL(...) ((void)0)
#else
#define CALL(...)                                    \
    do {                                             \
        FILE *log = fopen(getenv("STUB_LOG"), "a");  \
        fprintf(log, __VA_ARGS__);                   \
        fputc('\n', log);                            \
        fclose(log);                                 \
    } while (0)
#endif

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

int cuInit(unsigned flags) {
    CALL("init %u", flags);
    return number("STUB_INIT", 0);
}
int cuDriverGetVersion(int *version) {
    *version = 13020;
    return 0;
}
int cuDeviceGetCount(int *count) {
    *count = 2;
    return 0;
}
int cuDeviceGet(int *device, int index) {
    *device = index;
    return index < 0 || index > 1 ? 101 : 0;
}
int cuDeviceGetName(char *name, int size, int device) {
    snprintf(name, size, "Stub %d", device);
    return 0;
}
int cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? 9 - device : which == 76 ? 0 : which == 16 ? 132 : 232448;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    CALL("retain %d", device);
    *context = (void *)(0x1000L + device);
    return 0;
}
int cuCtxPushCurrent_v2(void *context) {
    CALL("push %p", context);
    return 0;
}
int cuCtxPopCurrent_v2(void **context) {
    CALL("pop");
    *context = NULL;
    return 0;
}
int cuModuleLoadData(void **module, const char *image) {
    static int loads;
    CALL("load %d", memcmp(image, "\177ELF", 4) == 0);
    *module = (void *)0x2000;
    return loads++ < number("STUB_REFUSED", 0) ? 209 : 0;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    CALL("function %p %s", module, name);
    *function = (void *)0x3000;
    return strcmp(name, "missing") == 0 ? 500 : 0;
}
int cuFuncSetAttribute(void *function, int which, int value) {
    CALL("attribute %p %d %d", function, which, value);
    return 0;
}
#ifndef STUB_BEFORE_12_4
/* The sizes of the parameters are the digits of $STUB_SIZES. */
int cuFuncGetParamInfo(void *function, size_t index, size_t *offset, size_t *size) {
    const char *sizes = getenv("STUB_SIZES");
    if (!sizes || index >= strlen(sizes)) return 1;
    *offset = 8 * index;
    *size = sizes[index] - '0';
    return 0;
}
#endif
#ifdef STUB_QUIET
int cuLaunchKernel() {
    return 0;
}
#elif !defined(STUB_OLD)
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **arguments, void **extra) {
    char text[1024];
    int at = sprintf(text, "launch %p %u,%u,%u %u,%u,%u %u %p %d", function, gx, gy, gz, bx, by, bz,
                     shared, stream, extra == NULL);
    const char *sizes = getenv("STUB_SIZES");
    for (int i = 0; sizes && sizes[i]; i++) {
        at += sprintf(text + at, " ");
        for (int j = 0; j < sizes[i] - '0'; j++) {
            at += sprintf(text + at, "%02x", ((unsigned char *)arguments[i])[j]);
        }
    }
    CALL("%s", text);
    return number("STUB_LAUNCH", 0);
}
#endif
int cuGetErrorString(int code, const char **text) {
    *text = code == 999 ? NULL : "reported by the stub";
    return code == 999;
}
