#include <algorithm>
#include <cmath>

#include "torch/shim.h"

namespace pyquant {

using torch::headeronly::ScalarType;

/* float32 of the shape of the gradient, contiguous. */
static Tensor like(const char *op, const char *name, const Tensor &x, const Shape &shape) {
    const Tensor result = contiguous(op, name, x);
    if (shape_of(result) != shape) {
        fail(op, std::string("expected ") + name + " of the shape of grad, " + text(shape) +
                     ", got " + text(shape_of(result)));
    }
    return result;
}

Tensor edge_backward(const Tensor &grad, const Tensor &y, const Tensor &scale,
                     const Tensor &zero_point, int64_t quant_min, int64_t quant_max) {
    static const char op[] = "edge_backward";
    Call call(op);
    const Tensor g = contiguous(op, "grad", grad);
    const Shape shape = shape_of(g);
    const Tensor values = like(op, "y", y, shape);
    const pq_affine edge = grid(call, op, "", scale, zero_point, quant_min, quant_max);
    const Tensor out = empty(shape);
    call.check(pq_edge_backward(call.exec(), static_cast<size_t>(g.numel()), edge,
                                g.const_data_ptr<float>(), values.const_data_ptr<float>(),
                                out.mutable_data_ptr<float>()));
    return out;
}

std::tuple<Tensor, Tensor> edge_backward_learned(const Tensor &grad, const Tensor &real,
                                                 const Tensor &y, const Tensor &scale,
                                                 const Tensor &zero_point, int64_t quant_min,
                                                 int64_t quant_max) {
    static const char op[] = "edge_backward_learned";
    Call call(op);
    const Tensor g = contiguous(op, "grad", grad);
    const Shape shape = shape_of(g);
    const Tensor function = like(op, "real", real, shape), values = like(op, "y", y, shape);
    const pq_affine edge = grid(call, op, "", scale, zero_point, quant_min, quant_max);
    const Tensor out = empty(shape);
    const Tensor sum = empty(Shape{}, ScalarType::Double);
    call.check(pq_edge_backward_learned(
        call.exec(), static_cast<size_t>(g.numel()), edge, g.const_data_ptr<float>(),
        function.const_data_ptr<float>(), values.const_data_ptr<float>(),
        out.mutable_data_ptr<float>(), sum.mutable_data_ptr<double>()));
    return {out, sum};
}

static Tensor table(const char *op, const char *name, const Tensor &x) {
    const Tensor result = contiguous(op, name, x);
    if (shape_of(result) != Shape{256}) {
        fail(op,
             std::string("expected ") + name + " of 256 entries, got " + text(shape_of(result)));
    }
    return result;
}

std::tuple<Tensor, Tensor> lookup_backward(const Tensor &grad, const Tensor &x, const Tensor &scale,
                                           const Tensor &zero_point, int64_t quant_min,
                                           int64_t quant_max, const Tensor &slope,
                                           const std::optional<Tensor> &step) {
    static const char op[] = "lookup_backward";
    Call call(op);
    const Tensor g = contiguous(op, "grad", grad);
    const Shape shape = shape_of(g);
    const Tensor operand = like(op, "x", x, shape), slopes = table(op, "slope", slope);
    std::optional<Tensor> steps;
    if (step) {
        steps = table(op, "step", *step);
    }
    const pq_affine edge = grid(call, op, "x", scale, zero_point, quant_min, quant_max);
    const Tensor out = empty(shape);
    const Tensor sum = empty(Shape{}, ScalarType::Double);
    call.check(pq_lookup_backward(call.exec(), static_cast<size_t>(g.numel()), edge,
                                  slopes.const_data_ptr<float>(),
                                  steps ? steps->const_data_ptr<float>() : nullptr,
                                  g.const_data_ptr<float>(), operand.const_data_ptr<float>(),
                                  out.mutable_data_ptr<float>(), sum.mutable_data_ptr<double>()));
    return {out, sum};
}

static Tensor in_order(const char *op, const char *name, const Tensor &x, const Shape &order) {
    checked(op, name, x);
    return contiguous(op, name, permute(x, order));
}

/* What the ops share: x in the order of memory, and its grids. */
class Operand {
  public:
    Operand(const char *op, const Tensor &input, const Tensor &scale, const Tensor &zero_point,
            std::optional<int64_t> axis, int64_t quant_min, int64_t quant_max, bool as_it_lies)
        : op_(op), order(as_it_lies ? memory_order(checked(op, "x", input))
                                    : memory_order(contiguous(op, "x", input))),
          x(in_order(op, "x", input, order)), args_{} {
        const int64_t dims = input.dim();
        args_.n = static_cast<size_t>(x.numel());
        args_.channels = args_.inner = 1;
        Shape grids;
        if (axis) {
            if (*axis < -dims || *axis >= dims) {
                fail(op, "expected axis in [" + std::to_string(-dims) + ", " +
                             std::to_string(dims - 1) + "], got " + std::to_string(*axis));
            }
            const int64_t channel = *axis < 0 ? *axis + dims : *axis;
            const Shape sizes = shape_of(x);
            const auto place =
                static_cast<size_t>(std::find(order.begin(), order.end(), channel) - order.begin());
            grids = {sizes[place]};
            args_.channels = static_cast<size_t>(sizes[place]);
            args_.inner = product(sizes, place + 1, sizes.size());
        }
        read_grids(scale, zero_point, grids, quant_min, quant_max);
    }
    /* Without channels where the axis has no element. */
    const pq_fake_args *args() const {
        return &args_;
    }
    /* As x lies. */
    Tensor restore(const Tensor &ordered) const {
        return permute(ordered, inverse(order));
    }

  private:
    const char *op_;

  public:
    const Shape order;
    const Tensor x;

  private:
    void read_grids(const Tensor &scale, const Tensor &zero_point, const Shape &grids,
                    int64_t quant_min, int64_t quant_max) {
        if (scale.scalar_type() != ScalarType::Float || !scale.is_cpu() ||
            shape_of(scale) != grids) {
            fail(op_, "expected scale of shape " + text(grids) +
                          " and dtype torch.float32 on the CPU, got " + text(shape_of(scale)));
        }
        const ScalarType type = zero_point.scalar_type();
        const Shape zero_shape = shape_of(zero_point);
        if ((type != ScalarType::Int && type != ScalarType::Float) || !zero_point.is_cpu() ||
            !(zero_shape.empty() || zero_shape == grids)) {
            fail(op_, "expected zero_point of shape " + text(grids) +
                          " and dtype torch.int32 on the CPU, got " + text(zero_shape));
        }
        if (quant_min < INT16_MIN || quant_min > quant_max || quant_max > INT16_MAX) {
            fail(op_, "expected -32768 <= quant_min <= quant_max <= 32767, got " +
                          std::to_string(quant_min) + " and " + std::to_string(quant_max));
        }
        scale_ = make_contiguous(scale);
        zero_ = make_contiguous(zero_point);
        args_.scale = scale_->const_data_ptr<float>();
        args_.zero_points = static_cast<size_t>(zero_->numel());
        if (type == ScalarType::Int) {
            args_.zero_point = zero_->const_data_ptr<int32_t>();
        } else {
            round_zeros(zero_->const_data_ptr<float>(), static_cast<float>(quant_min),
                        static_cast<float>(quant_max));
            args_.zero_point = zeros_.data();
        }
        args_.quant_min = static_cast<int32_t>(quant_min);
        args_.quant_max = static_cast<int32_t>(quant_max);
        if (args_.n == 0) { /* of any shape */
            args_.inner = 1;
        }
    }

    /* Learned ones are any floats. */
    void round_zeros(const float *values, float low, float high) {
        zeros_.reserve(args_.zero_points);
        for (size_t i = 0; i < args_.zero_points; i++) {
            if (std::isnan(values[i])) {
                fail(op_, "expected quant_min <= zero_point <= quant_max, got nan");
            }
            const float rounded = std::nearbyint(values[i]);
            zeros_.push_back(static_cast<int32_t>(std::min(std::max(rounded, low), high)));
        }
    }

    std::optional<Tensor> scale_, zero_;
    std::vector<int32_t> zeros_;
    pq_fake_args args_;
};

std::tuple<Tensor, Tensor> fake_quantize(const Tensor &x, const Tensor &scale,
                                         const Tensor &zero_point, std::optional<int64_t> axis,
                                         int64_t quant_min, int64_t quant_max) {
    static const char op[] = "fake_quantize";
    Call call(op);
    const Operand in(op, x, scale, zero_point, axis, quant_min, quant_max, true);
    const Tensor y = empty(shape_of(in.x));
    const Tensor mask = empty(Shape{(in.x.numel() + 7) / 8}, ScalarType::Byte);
    if (in.args()->channels > 0) {
        call.check(pq_fake_forward(call.exec(), in.args(), in.x.const_data_ptr<float>(),
                                   y.mutable_data_ptr<float>(), mask.mutable_data_ptr<uint8_t>()));
    }
    return {in.restore(y), mask};
}

Tensor fake_quantize_backward(const Tensor &grad, const Tensor &mask) {
    static const char op[] = "fake_quantize_backward";
    Call call(op);
    const Tensor g = contiguous(op, "grad", grad);
    const Shape bytes{(g.numel() + 7) / 8};
    if (mask.scalar_type() != ScalarType::Byte || shape_of(mask) != bytes || !mask.is_cpu()) {
        fail(op, "expected mask " + text(bytes) + " of torch.uint8 on cpu, got " +
                     text(shape_of(mask)));
    }
    const Tensor bits = make_contiguous(mask), out = empty(shape_of(g));
    call.check(pq_fake_backward(call.exec(), static_cast<size_t>(g.numel()),
                                g.const_data_ptr<float>(), bits.const_data_ptr<uint8_t>(),
                                out.mutable_data_ptr<float>()));
    return out;
}

Tensor fake_quantize_learned(const Tensor &x, const Tensor &scale, const Tensor &zero_point,
                             std::optional<int64_t> axis, int64_t quant_min, int64_t quant_max,
                             double grad_factor) {
    static const char op[] = "fake_quantize_learned";
    Call call(op);
    (void)grad_factor; /* of the backward pass */
    const Operand in(op, x, scale, zero_point, axis, quant_min, quant_max, true);
    const Tensor y = empty(shape_of(in.x));
    if (in.args()->channels > 0) {
        call.check(pq_fake_forward(call.exec(), in.args(), in.x.const_data_ptr<float>(),
                                   y.mutable_data_ptr<float>(), nullptr));
    }
    return in.restore(y);
}

/* The sum, as `halve` in lanes.py adds. */
static double halve(std::vector<double> values) {
    for (size_t count = values.size(); count > 1;) {
        size_t half = 1;
        while (2 * half < count) {
            half *= 2;
        }
        for (size_t i = half; i < count; i++) {
            values[i - half] += values[i];
        }
        count = half;
    }
    return values.empty() ? 0.0 : values[0];
}

/* `factor` times the sums, as float32. */
static Tensor scaled(const Shape &shape, const std::vector<double> &sums, double factor) {
    const Tensor result = empty(shape);
    std::transform(sums.begin(), sums.end(), result.mutable_data_ptr<float>(),
                   [factor](double sum) { return static_cast<float>(factor * sum); });
    return result;
}

std::tuple<Tensor, Tensor, Tensor>
fake_quantize_learned_backward(const Tensor &grad, const Tensor &x, const Tensor &scale,
                               const Tensor &zero_point, std::optional<int64_t> axis,
                               int64_t quant_min, int64_t quant_max, double grad_factor) {
    static const char op[] = "fake_quantize_learned_backward";
    Call call(op);
    const Operand in(op, x, scale, zero_point, axis, quant_min, quant_max, true);
    checked(op, "grad", grad);
    if (shape_of(grad) != shape_of(x)) {
        fail(op, "expected grad of shape " + text(shape_of(x)) + ", got " + text(shape_of(grad)));
    }
    const Tensor g = in_order(op, "grad", grad, in.order), dx = empty(shape_of(g));
    std::vector<double> ds(in.args()->channels), dz(in.args()->channels);
    if (in.args()->channels > 0) {
        call.check(pq_fake_learned_backward(call.exec(), in.args(), in.x.const_data_ptr<float>(),
                                            g.const_data_ptr<float>(), dx.mutable_data_ptr<float>(),
                                            ds.data(), dz.data()));
    }
    if (zero_point.dim() < scale.dim()) { /* one for all channels */
        dz = {halve(dz)};
    }
    return {in.restore(dx), scaled(shape_of(scale), ds, grad_factor),
            scaled(shape_of(zero_point), dz, 1.0)};
}

Tensor fake_quantize_stochastic(const Tensor &x, const Tensor &scale, const Tensor &zero_point,
                                std::optional<int64_t> axis, int64_t quant_min, int64_t quant_max,
                                int64_t seed) {
    static const char op[] = "fake_quantize_stochastic";
    Call call(op);
    const Operand in(op, x, scale, zero_point, axis, quant_min, quant_max, false);
    const Tensor y = empty(shape_of(in.x));
    if (in.args()->channels > 0) {
        call.check(pq_fake_stochastic(call.exec(), in.args(), static_cast<uint64_t>(seed),
                                      in.x.const_data_ptr<float>(), y.mutable_data_ptr<float>()));
    }
    return y;
}

} // namespace pyquant
