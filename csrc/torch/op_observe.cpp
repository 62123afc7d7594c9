#include <cmath>
#include <memory>

#include "torch/shim.h"

namespace pyquant {

using torch::headeronly::ScalarType;

void observe_minmax(const Tensor &x, const Tensor &minimum, const Tensor &maximum) {
    static const char op[] = "observe_minmax";
    Call call(op);
    const Tensor in = contiguous(op, "x", x);
    Tensor low = contiguous(op, "minimum", minimum);
    Tensor high = contiguous(op, "maximum", maximum);
    const Shape shape = shape_of(in), state = shape_of(low);
    if (shape_of(high) != state) {
        fail(op, "expected minimum and maximum of one shape, got " + text(state) + " and " +
                     text(shape_of(high)));
    }
    size_t channels = 1, inner = 1;
    bool fits = state.size() <= shape.size();
    for (size_t i = 0; fits && i < state.size(); i++) {
        const size_t axis = shape.size() - state.size() + i;
        if (state[i] != 1) {
            fits = channels == 1 && state[i] == shape[axis];
            channels = static_cast<size_t>(state[i]);
            inner = product(shape, axis + 1, shape.size());
        }
    }
    if (!fits) {
        fail(op, "expected minimum of shape () or one that broadcasts to " + text(shape) +
                     " with a single axis longer than 1, got " + text(state));
    }
    if (in.numel() == 0) {
        return;
    }
    call.check(pq_observe_minmax(call.exec(), static_cast<size_t>(in.numel()), channels, inner,
                                 in.const_data_ptr<float>(), low.mutable_data_ptr<float>(),
                                 high.mutable_data_ptr<float>()));
    if (!minimum.is_contiguous()) {
        Tensor target = minimum;
        torch::stable::copy_(target, low);
    }
    if (!maximum.is_contiguous()) {
        Tensor target = maximum;
        torch::stable::copy_(target, high);
    }
}

static void check_state(const char *name, const Tensor &x, const Shape &shape, ScalarType type,
                        const char *type_name) {
    if (shape_of(x) != shape || x.scalar_type() != type || !x.is_cpu() || !x.is_contiguous()) {
        fail("observe_histogram", std::string("expected ") + name + " " + text(shape) + " of " +
                                      type_name + ", contiguous, on cpu, got " + text(shape_of(x)));
    }
}

void observe_histogram(const Tensor &x, const Tensor &counts, const Tensor &meta) {
    static const char op[] = "observe_histogram";
    Call call(op);
    const Tensor in = contiguous(op, "x", x);
    check_state("counts", counts, {PQ_HISTOGRAM_BINS}, ScalarType::Long, "torch.int64");
    check_state("meta", meta, {4}, ScalarType::Double, "torch.float64");
    int64_t *bins = counts.mutable_data_ptr<int64_t>();
    double *state = meta.mutable_data_ptr<double>();
    if (!(state[0] >= 0 && state[0] <= 0x1p53) || !(std::fabs(state[3]) <= 0x1p31)) {
        fail(op, "expected meta as (count, minimum, maximum, exponent)");
    }
    auto histogram = std::make_unique<pq_histogram>();
    std::copy(bins, bins + PQ_HISTOGRAM_BINS, histogram->counts);
    histogram->total = static_cast<int64_t>(state[0]);
    histogram->minimum = static_cast<float>(state[1]);
    histogram->maximum = static_cast<float>(state[2]);
    histogram->exponent = static_cast<int32_t>(state[3]);
    call.check(pq_observe_histogram(call.exec(), static_cast<size_t>(in.numel()),
                                    in.const_data_ptr<float>(), histogram.get()));
    std::copy(histogram->counts, histogram->counts + PQ_HISTOGRAM_BINS, bins);
    state[0] = static_cast<double>(histogram->total);
    state[1] = static_cast<double>(histogram->minimum);
    state[2] = static_cast<double>(histogram->maximum);
    state[3] = static_cast<double>(histogram->exponent);
}

} // namespace pyquant
