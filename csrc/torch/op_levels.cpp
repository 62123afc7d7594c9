/* A tensor that is dense in another order of its axes is taken as it lies in memory; its output
 * lies likewise, and the bits of a mask are in that order (pyquant/torch_ops/levels.py has the
 * rule). */
#include <algorithm>

#include "torch/shim.h"

namespace pyquant {

using torch::headeronly::ScalarType;

namespace {

/* Axes from the outermost in memory, and the tensor contiguous in that order. */
struct Dense {
    Shape order;
    Tensor data;
    Tensor back(const Tensor &y) const {
        return permute(y, inverse(order));
    }
};

Dense dense(const char *op, const char *name, const Tensor &x) {
    const Shape order = memory_order(checked(op, name, x));
    return {order, make_contiguous(permute(x, order))};
}

/* `x` as it lies, the codebook, and the channels in that order of axes. */
struct Operands {
    Dense x;
    Tensor scale, levels, thresholds;
    pq_levels_args args;
};

Operands operands(const char *op, const Tensor &x, const Tensor &scale, const Tensor &levels,
                  const Tensor &thresholds, std::optional<int64_t> axis) {
    Operands o = {dense(op, "x", x),
                  contiguous(op, "scale", scale),
                  contiguous(op, "levels", levels),
                  contiguous(op, "thresholds", thresholds),
                  {}};
    const Shape shape = shape_of(o.x.data);
    const auto dim = static_cast<int64_t>(shape.size());
    if (levels.dim() != 1 || thresholds.dim() != 1 || levels.numel() < 1 ||
        levels.numel() > PQ_LEVELS_MOST || thresholds.numel() != levels.numel() - 1) {
        fail(op, "expected levels (m,) and thresholds (m - 1,) with 1 <= m <= 256, got " +
                     text(shape_of(levels)) + " and " + text(shape_of(thresholds)));
    }
    o.args.channels = o.args.inner = 1;
    if (!axis) {
        if (scale.numel() != 1) {
            fail(op, "expected a scale of 1 element without an axis, got " + text(shape_of(scale)));
        }
    } else {
        if (*axis < -dim || *axis >= dim) {
            fail(op, "expected an axis of " + text(shape_of(x)) + ", got " + std::to_string(*axis));
        }
        const int64_t wanted = *axis < 0 ? *axis + dim : *axis;
        const auto at = static_cast<size_t>(std::find(o.x.order.begin(), o.x.order.end(), wanted) -
                                            o.x.order.begin());
        if (shape_of(scale) != Shape{shape[at]}) {
            fail(op, "expected scale " + text(Shape{shape[at]}) + ", got " + text(shape_of(scale)));
        }
        o.args.channels = static_cast<size_t>(shape[at]);
        o.args.inner = product(shape, at + 1, shape.size());
    }
    o.args.n = static_cast<size_t>(x.numel());
    o.args.scale = o.scale.const_data_ptr<float>();
    o.args.levels = o.levels.const_data_ptr<float>();
    o.args.thresholds = o.thresholds.const_data_ptr<float>();
    o.args.count = static_cast<size_t>(levels.numel());
    return o;
}

Tensor forward(const char *op, const Operands &o, uint8_t *mask) {
    Call call(op);
    const Tensor y = empty(shape_of(o.x.data));
    call.check(pq_levels_values(call.exec(), &o.args, o.x.data.const_data_ptr<float>(),
                                y.mutable_data_ptr<float>(), mask));
    return o.x.back(y);
}

} // namespace

std::tuple<Tensor, Tensor> fake_levels(const Tensor &x, const Tensor &scale, const Tensor &levels,
                                       const Tensor &thresholds, std::optional<int64_t> axis) {
    static const char op[] = "fake_levels";
    const Operands o = operands(op, x, scale, levels, thresholds, axis);
    const Tensor mask = empty(Shape{(x.numel() + 7) / 8}, ScalarType::Byte);
    const Tensor y = forward(op, o, mask.mutable_data_ptr<uint8_t>());
    return {y, mask};
}

Tensor fake_levels_learned(const Tensor &x, const Tensor &scale, const Tensor &levels,
                           const Tensor &thresholds, std::optional<int64_t> axis,
                           double grad_factor) {
    static const char op[] = "fake_levels_learned";
    if (!(grad_factor - grad_factor == 0.0)) {
        fail(op, "expected a finite grad_factor");
    }
    return forward(op, operands(op, x, scale, levels, thresholds, axis), nullptr);
}

std::tuple<Tensor, Tensor> fake_levels_learned_backward(const Tensor &grad, const Tensor &x,
                                                        const Tensor &scale, const Tensor &levels,
                                                        const Tensor &thresholds,
                                                        std::optional<int64_t> axis,
                                                        double grad_factor) {
    static const char op[] = "fake_levels_learned_backward";
    const Operands o = operands(op, x, scale, levels, thresholds, axis);
    checked(op, "grad", grad);
    if (shape_of(grad) != shape_of(x)) {
        fail(op, "expected grad " + text(shape_of(x)) + ", got " + text(shape_of(grad)));
    }
    const Tensor g = make_contiguous(permute(grad, o.x.order));
    const Tensor dx = empty(shape_of(g)), dscale = empty(shape_of(scale));
    std::vector<float> sums(o.args.channels);
    Call call(op);
    call.check(pq_levels_learned(call.exec(), &o.args, grad_factor,
                                 o.x.data.const_data_ptr<float>(), g.const_data_ptr<float>(),
                                 dx.mutable_data_ptr<float>(), sums.data()));
    std::copy_n(sums.begin(), scale.numel(), dscale.mutable_data_ptr<float>());
    return {o.x.back(dx), dscale};
}

} // namespace pyquant
