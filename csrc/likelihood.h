// The model's own distribution over the next token: natural logarithms of the softmax of a row of logits.
#pragma once
#include <span>
#include <stdexcept>
#include <vector>

#include "kernels/kernels.h"

namespace madang {

// The model computed NaN or infinity: damaged weights, or an overflow.
struct NotNumbers : std::runtime_error {
    NotNumbers() : std::runtime_error("the model's logits are not finite numbers") {}
};

// One sum serves samplers and scorers, so that a token that was drawn and the same token scored have the same bits.
class LogSoftmax {
public:
    // `scratch` is resized to the row; the exponentials are summed in float64. Throws NotNumbers.
    LogSoftmax(std::span<const float> logits, const Kernels& kernels, std::vector<float>& scratch);

    float operator()(float logit) const { return float(double(logit - top_) - log_sum_); }

private:
    float top_;
    double log_sum_;
};

}  // namespace madang
