// Members share the threads: a thread takes a whole rollout, so that nothing waits for anything between steps.
#include "members.h"

#include <exception>

#include "stop.h"

namespace ncafast::cpu {
namespace {

// With fewer members than half the threads, all threads work on one after another: by count, not measured.
bool one_by_one(int64_t members, int threads) { return 2 * members < threads; }

// Runs work(member, threads) on each. Where one throws, the others end, and it is thrown again here: of several the
// first member's.
template <class Member, class Work>
void each(const std::vector<Member>& members, int threads, const Work& work) {
  const int64_t count = static_cast<int64_t>(members.size());
  if (one_by_one(count, threads)) {
    for (const Member& member : members) work(member, threads);
    return;
  }
  std::vector<std::exception_ptr> failed(count);
  std::atomic<bool> failing{false};
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t i = 0; i < count; ++i) {
    if (failing) continue;
    const AbandonedWith others(failing);
    try {
      work(members[i], 1);
    } catch (const Abandoned&) {
    } catch (...) {
      failed[i] = std::current_exception();
      failing = true;
    }
  }
  for (const std::exception_ptr& failure : failed)
    if (failure) std::rethrow_exception(failure);
}

}  // namespace

void forward(const std::vector<ForwardMember>& members, int threads) {
  each(members, threads,
       [](const ForwardMember& m, int alone) { forward(m.inputs, alone, m.out, m.history, m.stats, m.tape); });
}

void backward(const std::vector<BackwardMember>& members, int threads) {
  each(members, threads, [](const BackwardMember& m, int alone) {
    backward(m.inputs, alone, m.history, m.tape, m.grad_out, m.grad_history, m.gradients);
  });
}

}  // namespace ncafast::cpu
