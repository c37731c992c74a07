/*
 * Measures the turns of an event loop: from the return of epoll_wait() to its next call, by the clock
 * and in processor time. Loaded into nginx by LD_PRELOAD; $LOOPS_FILE is a file of struct turns, which
 * all processes of that nginx share. With one worker only that one writes: the master has no such loop.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct turns {
    uint64_t count;
    uint64_t wall;      /* the longest so far, ns */
    uint64_t cpu;       /* the same in processor time */
    uint64_t over[4];   /* how many took more than 5, 10, 20 and 50 ms of processor time */
};

static int (*real)(int, struct epoll_event *, int, int);
static struct turns *turns;
static uint64_t wall_before, cpu_before;

static uint64_t
now(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (uint64_t) time.tv_sec * 1000000000 + (uint64_t) time.tv_nsec;
}

__attribute__((constructor)) static void
start(void)
{
    const char *path = getenv("LOOPS_FILE");
    int file;
    void *memory;

    real = (int (*)(int, struct epoll_event *, int, int)) dlsym(RTLD_NEXT, "epoll_wait");
    if (path == NULL || (file = open(path, O_RDWR)) < 0) {
        return;
    }
    memory = mmap(NULL, sizeof(struct turns), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    turns = memory == MAP_FAILED ? NULL : memory;
}

int
epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    static const uint64_t steps[4] = { 5000000, 10000000, 20000000, 50000000 };
    uint64_t wall, cpu;
    int result, step;

    if (turns != NULL && wall_before != 0) {
        wall = now(CLOCK_MONOTONIC) - wall_before;
        cpu = now(CLOCK_THREAD_CPUTIME_ID) - cpu_before;
        turns->count++;
        if (wall > turns->wall) {
            turns->wall = wall;
        }
        if (cpu > turns->cpu) {
            turns->cpu = cpu;
        }
        for (step = 0; step < 4 && cpu > steps[step]; step++) {
            turns->over[step]++;
        }
    }
    result = real(epoll, events, most, timeout);
    if (turns != NULL) {
        wall_before = now(CLOCK_MONOTONIC);
        cpu_before = now(CLOCK_THREAD_CPUTIME_ID);
    }
    return result;
}
