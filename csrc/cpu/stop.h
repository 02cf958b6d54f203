// Ends a rollout between two of its steps, where its caller asked for that (between_steps in rollout.h).
#pragma once

#include <atomic>

namespace ncafast::cpu {

void may_stop();  // called between steps, outside parallel regions; throws what ends the rollout

// Thrown by may_stop where another thread's rollout failed, in whose call this one is.
struct Abandoned {};

// While it lives, rollouts of this thread end once `failing` is set.
class AbandonedWith {
 public:
  explicit AbandonedWith(const std::atomic<bool>& failing);
  ~AbandonedWith();
  AbandonedWith(const AbandonedWith&) = delete;
};

}  // namespace ncafast::cpu
