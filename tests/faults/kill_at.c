/* Preloaded into a process, ends it as SIGKILL would, just before the N-th call that changes
 * files (KILL_AT=N, counted from 1) or, with FAIL_FROM=N, answers ENOSPC from that call on.
 * It prints the number of calls at a normal exit if COUNT_CALLS names a file. A process that forks
 * counts from kill_at_call on, and asks for the number with calls_made. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;
static long kill_at = -1, fail_from = -1;

void kill_at_call(long n) {
    atomic_store(&calls, 0);
    kill_at = n;
    fail_from = 0;
}

long calls_made(void) { return atomic_load(&calls); }

static long limit(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

/* Returns 1 if the call is to fail with ENOSPC; does not return if the process is to die. */
static int count_call(int can_fail) {
    if (kill_at < 0) {
        kill_at = limit("KILL_AT");
        fail_from = limit("FAIL_FROM");
    }
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (kill_at && n == kill_at) {
        kill(getpid(), SIGKILL);
        pause();
    }
    if (can_fail && fail_from && n >= fail_from) {
        errno = ENOSPC;
        return 1;
    }
    return 0;
}

__attribute__((destructor)) static void report(void) {
    const char *name = getenv("COUNT_CALLS");
    FILE *file = name ? fopen(name, "w") : NULL;
    if (file) {
        fprintf(file, "%ld", atomic_load(&calls));
        fclose(file);
    }
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return count_call(1) ? -1 : REAL(pwrite64)(fd, data, size, at);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return count_call(1) ? -1 : REAL(pwrite)(fd, data, size, at);
}
ssize_t write(int fd, const void *data, size_t size) {
    if (fd <= 2) return REAL(write)(fd, data, size);
    return count_call(1) ? -1 : REAL(write)(fd, data, size);
}
int ftruncate64(int fd, off64_t size) { return count_call(0) ? -1 : REAL(ftruncate64)(fd, size); }
int ftruncate(int fd, off_t size) { return count_call(0) ? -1 : REAL(ftruncate)(fd, size); }
int fsync(int fd) { return count_call(0) ? -1 : REAL(fsync)(fd); }
int rename(const char *from, const char *to) { return count_call(0) ? -1 : REAL(rename)(from, to); }
int unlink(const char *path) { return count_call(0) ? -1 : REAL(unlink)(path); }
int unlinkat(int fd, const char *path, int flags) {
    return count_call(0) ? -1 : REAL(unlinkat)(fd, path, flags);
}
int rmdir(const char *path) { return count_call(0) ? -1 : REAL(rmdir)(path); }
int mkdir(const char *path, mode_t mode) { return count_call(0) ? -1 : REAL(mkdir)(path, mode); }
int link(const char *from, const char *to) { return count_call(0) ? -1 : REAL(link)(from, to); }
