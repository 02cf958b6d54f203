// The check between steps, and the time since the last one; see stop.h.
#include "stop.h"

#include <chrono>

#include "rollout.h"

namespace ncafast::cpu {
namespace {

using Clock = std::chrono::steady_clock;

std::atomic<void (*)()> check{nullptr};
thread_local Clock::time_point last;
thread_local const std::atomic<bool>* failing = nullptr;

}  // namespace

AbandonedWith::AbandonedWith(const std::atomic<bool>& others) { failing = &others; }
AbandonedWith::~AbandonedWith() { failing = nullptr; }

void between_steps(void (*to)()) { check = to; }

void may_stop() {
  if (failing && *failing) throw Abandoned{};
  void (*const now)() = check;
  if (!now) return;
  const Clock::time_point time = Clock::now();
  if (time - last < std::chrono::milliseconds(100)) return;  // what is called may wait for Python's lock
  last = time;
  now();
}

}  // namespace ncafast::cpu
