/* The third driver behind pq_exec: torch's own parallel_for, so that torch.set_num_threads holds.
 */
#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "torch/shim.h"

namespace pyquant {
namespace {

/* Each worker is a slot, and takes the next range as soon as it is done with one. torch may give
 * several workers to one thread (then they run one after the other, as slots allow). */
pq_status torch_parallel_for(const pq_exec *exec, size_t count, size_t grain, pq_range_fn body,
                             void *task) {
    const size_t ranges = count / grain + (count % grain != 0);
    const size_t workers = std::min(ranges, static_cast<size_t>(exec->num_threads));
    std::atomic<size_t> next{0};
    const auto work = [&](int64_t begin, int64_t end) {
        for (int64_t slot = begin; slot < end; slot++) {
            for (size_t range = next++; range < ranges; range = next++) {
                const size_t first = range * grain;
                body(task, first, std::min(count, first + grain), static_cast<int>(slot));
            }
        }
    };
    if (workers <= 1) {
        work(0, 1);
        return PQ_OK;
    }
    try { /* no exception may pass through the C callers */
        torch::stable::parallel_for(0, static_cast<int64_t>(workers), 1, work);
    } catch (const std::exception &error) {
        return pq_fail(exec, PQ_ERR_UNSUPPORTED, "parallel_for: %s", error.what());
    }
    return PQ_OK;
}

/* PYQUANT_ISA is read once, here; a name that is wrong is reported by every op, not by the loader.
 */
std::string limit_isa() {
    const char *name = std::getenv("PYQUANT_ISA");
    switch (pq_isa_limit(name)) {
    case PQ_OK: return "";
    case PQ_ERR_UNSUPPORTED:
        return std::string("PYQUANT_ISA: this machine has no ") + name + " (up to " +
               pq_isa_name(pq_isa_active()) + ")";
    default: return std::string("PYQUANT_ISA: no such instruction set: ") + name;
    }
}

} // namespace

Call::Call(const char *op)
    : op_(op), exec_{torch_parallel_for,
                     static_cast<int>(torch::stable::get_num_threads()),
                     nullptr,
                     nullptr,
                     message_,
                     sizeof message_} {
    static const std::string isa_error = limit_isa();
    if (!isa_error.empty()) {
        fail(op, isa_error);
    }
}

void Call::check(pq_status status) const {
    if (status != PQ_OK) {
        fail(op_, message_[0] != '\0' ? message_ : pq_status_name(status));
    }
}

} // namespace pyquant
