/* A disk that fails, or takes a process's life, at a chosen moment: for scripts/kill_build.py.
 *
 *     cc -shared -fPIC -O2 -o failing_disk.so failing_disk.c -ldl
 *     LD_PRELOAD=./failing_disk.so DISK_FOLDER=/out DISK_COUNTER=/file DISK_MODE=kill-one DISK_AT=17 python ...
 *
 * Every call that changes something below DISK_FOLDER is a step, in whichever process: making a file or folder, writing,
 * fsync, renaming, removing. Steps are counted in DISK_COUNTER, a file of 8 bytes that all processes map. DISK_MODE:
 *
 *   count        only count
 *   kill-all     SIGKILL for the whole process group in step DISK_AT; a write in that step gets half of its bytes done
 *   kill-one     SIGKILL for the process that came to step DISK_AT, likewise
 *   fail         each step but removals fails with ENOSPC or EIO with a chance of DISK_CHANCE in a million, drawn from
 *                DISK_SEED and the number of the step; of writes that fail, half write half of their bytes instead
 *
 * disk_arm() reads these names again: a process that was forked calls it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { OFF, COUNT, KILL_ALL, KILL_ONE, FAIL };
enum fate { GOES_ON, FAILS, DIES };

static enum mode mode = OFF;
static char folder[PATH_MAX];
static size_t folder_length;
static uint64_t kill_at, seed, chance;
static _Atomic uint64_t *steps;

static uint64_t number(const char *name) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : 0;
}

__attribute__((constructor)) void disk_arm(void) {
    const char *wanted = getenv("DISK_MODE"), *place = getenv("DISK_FOLDER"), *counter = getenv("DISK_COUNTER");
    mode = OFF;
    if (!wanted || !place || !counter) return;
    int file = open(counter, O_RDWR);
    if (file < 0) return;
    steps = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (steps == MAP_FAILED) return;
    folder_length = (size_t)snprintf(folder, sizeof folder, "%s", place);
    kill_at = number("DISK_AT");
    seed = number("DISK_SEED");
    chance = number("DISK_CHANCE");
    if (!strcmp(wanted, "count")) mode = COUNT;
    if (!strcmp(wanted, "kill-all")) mode = KILL_ALL;
    if (!strcmp(wanted, "kill-one")) mode = KILL_ONE;
    if (!strcmp(wanted, "fail")) mode = FAIL;
}

static int is_below(const char *path) {
    return path && !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
}

static int is_file_below(int file) {
    char name[40], path[PATH_MAX];
    if (mode == OFF || file < 0) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

static int is_place_below(int from, const char *path) {
    if (mode == OFF || !path) return 0;
    return path[0] == '/' || from == AT_FDCWD ? is_below(path) : is_file_below(from);
}

/* splitmix64 */
static uint64_t mixed(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static enum fate step(uint64_t *drawn) {
    uint64_t here = atomic_fetch_add(steps, 1) + 1;
    *drawn = mixed(seed * 1000003u + here);
    if ((mode == KILL_ALL || mode == KILL_ONE) && here == kill_at) return DIES;
    if (mode == FAIL && *drawn % 1000000u < chance) return FAILS;
    return GOES_ON;
}

static void die(void) {
    kill(mode == KILL_ALL ? 0 : getpid(), SIGKILL);
    for (;;) pause();
}

static int failed(uint64_t drawn) {
    errno = (drawn >> 32) & 1 ? ENOSPC : EIO;
    return -1;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Dies, fails with -1, or goes on to whatever stands after it. */
#define STEP(below) \
    do { \
        uint64_t drawn; \
        if (mode != OFF && (below)) { \
            enum fate fate = step(&drawn); \
            if (fate == DIES) die(); \
            if (fate == FAILS) return failed(drawn); \
        } \
    } while (0)

/* Removals are counted, and do not fail. */
#define STEP_THAT_WORKS(below) \
    do { \
        uint64_t drawn; \
        if (mode != OFF && (below) && step(&drawn) == DIES) die(); \
    } while (0)

#define OPENING(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t rights = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        if (flags & O_CREAT) STEP(is_below(path)); \
        return real(path, flags, rights); \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(name) \
    int name(int from, const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t rights = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        if (flags & O_CREAT) STEP(is_place_below(from, path)); \
        return real(from, path, flags, rights); \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

FILE *fopen(const char *path, const char *how) {
    REAL(fopen);
    uint64_t drawn;
    if (mode != OFF && strpbrk(how, "wa+") && is_below(path)) {
        enum fate fate = step(&drawn);
        if (fate == DIES) die();
        if (fate == FAILS) {
            failed(drawn);
            return NULL;
        }
    }
    return real(path, how);
}

/* How many bytes to write now: all, half of them before dying or instead of failing, or -1. */
static ssize_t share(int file, size_t size, int *dies) {
    uint64_t drawn;
    *dies = 0;
    if (mode == OFF || !is_file_below(file)) return (ssize_t)size;
    enum fate fate = step(&drawn);
    *dies = fate == DIES;
    if (fate == FAILS && (size < 2 || (drawn >> 40) & 1)) return failed(drawn);
    return (ssize_t)(fate == GOES_ON ? size : size / 2);
}

#define WRITING(name, PARAMETERS, ...) \
    ssize_t name(int file, const void *bytes, size_t size PARAMETERS) { \
        REAL(name); \
        int dies; \
        ssize_t now = share(file, size, &dies); \
        if (now < 0) return now; \
        ssize_t done = real(file, bytes, (size_t)now __VA_ARGS__); \
        if (dies) die(); \
        return done; \
    }
#define AT_PLACE , off_t place
WRITING(write, )
WRITING(pwrite, AT_PLACE, , place)
WRITING(pwrite64, AT_PLACE, , place)

ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(writev);
    STEP(is_file_below(file));
    return real(file, parts, count);
}

int fsync(int file) {
    REAL(fsync);
    STEP(is_file_below(file));
    return real(file);
}

int fdatasync(int file) {
    REAL(fdatasync);
    STEP(is_file_below(file));
    return real(file);
}

int ftruncate(int file, off_t size) {
    REAL(ftruncate);
    STEP(is_file_below(file));
    return real(file, size);
}

int ftruncate64(int file, off_t size) {
    REAL(ftruncate64);
    STEP(is_file_below(file));
    return real(file, size);
}

int rename(const char *before, const char *after) {
    REAL(rename);
    STEP(is_below(after));
    return real(before, after);
}

int renameat(int from, const char *before, int to, const char *after) {
    REAL(renameat);
    STEP(is_place_below(to, after));
    return real(from, before, to, after);
}

int mkdir(const char *path, mode_t rights) {
    REAL(mkdir);
    STEP(is_below(path));
    return real(path, rights);
}

int mkdirat(int from, const char *path, mode_t rights) {
    REAL(mkdirat);
    STEP(is_place_below(from, path));
    return real(from, path, rights);
}

int unlink(const char *path) {
    REAL(unlink);
    STEP_THAT_WORKS(is_below(path));
    return real(path);
}

int unlinkat(int from, const char *path, int flags) {
    REAL(unlinkat);
    STEP_THAT_WORKS(is_place_below(from, path));
    return real(from, path, flags);
}

int rmdir(const char *path) {
    REAL(rmdir);
    STEP_THAT_WORKS(is_below(path));
    return real(path);
}
