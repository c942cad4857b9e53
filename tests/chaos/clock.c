// The wall clock of a program, moved by the seconds that stand in a file, which may change while it runs. libfaketime does the same, but it
// allocates inside of the first call, and jemalloc, which our programs have, makes that call before it can allocate: both wait for ever.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
  long result = syscall(SYS_clock_gettime, clock, now);
  if (result != 0 || clock != CLOCK_REALTIME)
    return (int)result;
  const char *name = getenv("SIGNALBOX_CHAOS_CLOCK");
  int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
  if (file >= 0) {
    char text[32] = {0};
    if (read(file, text, sizeof text - 1) > 0)
      now->tv_sec += strtol(text, NULL, 10);
    close(file);
  }
  return 0;
}
