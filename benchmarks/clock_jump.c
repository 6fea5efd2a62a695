/* Preloaded into a process, moves the system's clock by CLOCK_JUMP_S seconds once the monotonic clock has
 * reached CLOCK_JUMP_AT_NS: time(), gettimeofday() and clock_gettime(CLOCK_REALTIME). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static long long jumped_seconds(void) {
    const char *at = getenv("CLOCK_JUMP_AT_NS"), *by = getenv("CLOCK_JUMP_S");
    struct timespec now;
    if (!at || !by || REAL(clock_gettime)(CLOCK_MONOTONIC, &now)) return 0;
    return now.tv_sec * 1000000000LL + now.tv_nsec >= atoll(at) ? atoll(by) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *found) {
    int status = REAL(clock_gettime)(clock, found);
    if (!status && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) found->tv_sec += jumped_seconds();
    return status;
}

time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *found, void *zone) {
    int status = REAL(gettimeofday)(found, zone);
    if (!status) found->tv_sec += jumped_seconds();
    return status;
}
