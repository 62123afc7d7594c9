/* What every op of the shim uses: the core's headers, the driver, and how arguments are unpacked.
 *
 * Errors are std::runtime_error, which libtorch turns into Python's RuntimeError: the message
 * begins with the name of the op, as in the pure-torch bodies.
 */
#ifndef PYQUANT_TORCH_SHIM_H
#define PYQUANT_TORCH_SHIM_H

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

extern "C" {
#include "pyquant/cpu.h"
#include "pyquant/exec.h"
#include "pyquant/fake.h"
#include "pyquant/gemm_s8s4.h"
#include "pyquant/levels.h"
#include "pyquant/observe.h"
#include "pyquant/quantize.h"
#include "pyquant/sim.h"
}

namespace pyquant {

using torch::stable::Tensor;
using Shape = std::vector<int64_t>;

[[noreturn]] void fail(const std::string &op, const std::string &rule);

/* One call into the core: torch's threads, and the message of a failed status. */
class Call {
  public:
    explicit Call(const char *op);
    const pq_exec *exec() const {
        return &exec_;
    }
    void check(pq_status status) const;

  private:
    const char *op_;
    char message_[512] = {0};
    pq_exec exec_;
};

/* A strided float32 CPU tensor, as it is, or contiguous (make_: torch::stable has the other name,
 * which an argument of its type would find too). */
const Tensor &checked(const char *op, const char *name, const Tensor &x);
Tensor make_contiguous(const Tensor &x);
inline Tensor contiguous(const char *op, const char *name, const Tensor &x) {
    return make_contiguous(checked(op, name, x));
}
/* An optional tensor of that shape, contiguous. */
std::optional<Tensor> array_of(const char *op, const char *name, const std::optional<Tensor> &x,
                               const Shape &shape);
inline const float *data_or_null(const std::optional<Tensor> &x) {
    return x ? x->const_data_ptr<float>() : nullptr;
}

/* A grid as the core takes it; `name` is the operand's, or "" for the only one. */
pq_affine grid(const Call &call, const char *op, const std::string &name, const Tensor &scale,
               const Tensor &zero_point, int64_t quant_min, int64_t quant_max);

Shape shape_of(const Tensor &x);
std::string text(const Shape &shape);
size_t product(const Shape &shape, size_t begin, size_t end);
/* A new contiguous CPU tensor. */
Tensor empty(const Shape &shape,
             torch::headeronly::ScalarType type = torch::headeronly::ScalarType::Float);
/* Views by the dispatcher: the stable ABI has no wrapper of these two. A permutation that leaves
 * the axes where they are is x itself. */
Tensor expand(const Tensor &x, const Shape &shape);
Tensor permute(const Tensor &x, const Shape &order);
/* The axes of a dense tensor in the order of memory, or as they are where it has gaps; and the way
 * back. */
Shape memory_order(const Tensor &x);
Shape inverse(const Shape &order);

/* A schema's str. The wrapper of libtorch 2.10 to 2.13 for std::string leaks one per call. */
std::string take(StringHandle handle);

/* A method's text (pyquant/method.h). */
pq_method read_method(const Call &call, pq_method_op op, const std::string &text);

/* The implementations, in schema order (op_*.cpp). `approximate_gradient` is for the backward
 * pass. */
Tensor quantize(const Tensor &x, const Tensor &scale, const Tensor &zero_point, int64_t quant_min,
                int64_t quant_max);
Tensor requantize(const Tensor &x, const Tensor &x_scale, const Tensor &x_zero_point,
                  int64_t x_quant_min, int64_t x_quant_max, const Tensor &y_scale,
                  const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max);
Tensor linear(const Tensor &x, const Tensor &x_scale, const Tensor &x_zero_point,
              int64_t x_quant_min, int64_t x_quant_max, const Tensor &weight,
              const std::optional<Tensor> &bias, const std::optional<Tensor> &weight_scale,
              int64_t weight_bits, int64_t group_size, const Tensor &y_scale,
              const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max);
Tensor attention(const Tensor &q, const Tensor &q_scale, const Tensor &q_zero_point,
                 int64_t q_quant_min, int64_t q_quant_max, const Tensor &k, const Tensor &k_scale,
                 const Tensor &k_zero_point, int64_t k_quant_min, int64_t k_quant_max,
                 const Tensor &v, const Tensor &v_scale, const Tensor &v_zero_point,
                 int64_t v_quant_min, int64_t v_quant_max, const std::optional<Tensor> &attn_mask,
                 bool is_causal, double scale, StringHandle method, const Tensor &y_scale,
                 const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max,
                 bool approximate_gradient);
Tensor layer_norm(const Tensor &x, const Tensor &x_scale, const Tensor &x_zero_point,
                  int64_t x_quant_min, int64_t x_quant_max, const std::optional<Tensor> &weight,
                  const std::optional<Tensor> &bias, double eps, bool rms, StringHandle method,
                  const std::optional<Tensor> &x_range, const Tensor &y_scale,
                  const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max,
                  bool approximate_gradient);
Tensor softmax(const Tensor &x, const Tensor &x_scale, const Tensor &x_zero_point,
               int64_t x_quant_min, int64_t x_quant_max, StringHandle method, const Tensor &y_scale,
               const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max,
               bool approximate_gradient);
Tensor unary(const Tensor &x, const Tensor &x_scale, const Tensor &x_zero_point,
             int64_t x_quant_min, int64_t x_quant_max, StringHandle function, StringHandle method,
             const Tensor &y_scale, const Tensor &y_zero_point, int64_t y_quant_min,
             int64_t y_quant_max, bool approximate_gradient);
Tensor add(const Tensor &a, const Tensor &a_scale, const Tensor &a_zero_point, int64_t a_quant_min,
           int64_t a_quant_max, const Tensor &b, const Tensor &b_scale, const Tensor &b_zero_point,
           int64_t b_quant_min, int64_t b_quant_max, const Tensor &y_scale,
           const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max);
Tensor mean(const Tensor &x, const Tensor &x_scale, const Tensor &x_zero_point, int64_t x_quant_min,
            int64_t x_quant_max, const Shape &dim, bool keepdim, const Tensor &y_scale,
            const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max);
std::tuple<Tensor, Tensor> fake_quantize(const Tensor &x, const Tensor &scale,
                                         const Tensor &zero_point, std::optional<int64_t> axis,
                                         int64_t quant_min, int64_t quant_max);
Tensor fake_quantize_backward(const Tensor &grad, const Tensor &mask);
Tensor fake_quantize_learned(const Tensor &x, const Tensor &scale, const Tensor &zero_point,
                             std::optional<int64_t> axis, int64_t quant_min, int64_t quant_max,
                             double grad_factor);
std::tuple<Tensor, Tensor, Tensor>
fake_quantize_learned_backward(const Tensor &grad, const Tensor &x, const Tensor &scale,
                               const Tensor &zero_point, std::optional<int64_t> axis,
                               int64_t quant_min, int64_t quant_max, double grad_factor);
Tensor fake_quantize_stochastic(const Tensor &x, const Tensor &scale, const Tensor &zero_point,
                                std::optional<int64_t> axis, int64_t quant_min, int64_t quant_max,
                                int64_t seed);
Tensor edge_backward(const Tensor &grad, const Tensor &y, const Tensor &scale,
                     const Tensor &zero_point, int64_t quant_min, int64_t quant_max);
std::tuple<Tensor, Tensor> edge_backward_learned(const Tensor &grad, const Tensor &real,
                                                 const Tensor &y, const Tensor &scale,
                                                 const Tensor &zero_point, int64_t quant_min,
                                                 int64_t quant_max);
std::tuple<Tensor, Tensor> lookup_backward(const Tensor &grad, const Tensor &x, const Tensor &scale,
                                           const Tensor &zero_point, int64_t quant_min,
                                           int64_t quant_max, const Tensor &slope,
                                           const std::optional<Tensor> &step);
void observe_minmax(const Tensor &x, const Tensor &minimum, const Tensor &maximum);
void observe_histogram(const Tensor &x, const Tensor &counts, const Tensor &meta);
std::tuple<Tensor, Tensor> fake_levels(const Tensor &x, const Tensor &scale, const Tensor &levels,
                                       const Tensor &thresholds, std::optional<int64_t> axis);
Tensor fake_levels_learned(const Tensor &x, const Tensor &scale, const Tensor &levels,
                           const Tensor &thresholds, std::optional<int64_t> axis,
                           double grad_factor);
std::tuple<Tensor, Tensor> fake_levels_learned_backward(const Tensor &grad, const Tensor &x,
                                                        const Tensor &scale, const Tensor &levels,
                                                        const Tensor &thresholds,
                                                        std::optional<int64_t> axis,
                                                        double grad_factor);

} // namespace pyquant

#endif
