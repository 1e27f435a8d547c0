// From logits to a token. The order: mask, bias, penalties, temperature, top-k, top-p, min-p, draw.
#pragma once
#include <cstdint>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "likelihood.h"

namespace madang {

struct SamplerOptions {
    float temperature = 1;  // 0 takes the most likely token
    int top_k = 0;          // 0 keeps all
    float top_p = 1, min_p = 0;
    float repeat_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
    int repeat_last_n = 0;  // -1 is the whole history
    uint64_t seed = 0;
    std::vector<std::pair<int32_t, float>> bias;
};

// Mask, bias and model together leave no token that could come next.
struct NothingAllowed : std::runtime_error {
    NothingAllowed() : std::runtime_error("no token is allowed here") {}
};

struct Choice {
    int32_t token;
    float logprob;                                     // natural log, of the model's own distribution
    std::vector<std::pair<int32_t, float>> alternatives;  // most likely first
};

class Sampler {
public:
    explicit Sampler(SamplerOptions options);

    // Tokens that the penalties look back on: the prompt first, then each chosen token.
    void accept(std::span<const int32_t> tokens);

    // n_alternatives < 0 skips the log-probabilities. The draw depends on the seed and the number of draws so far only.
    // mask: one bit per token, set where it may come; tokens past its end may not; empty allows all.
    // Throws NotNumbers, NothingAllowed.
    Choice sample(std::span<const float> logits, const Kernels& kernels, int n_alternatives, std::span<const uint32_t> mask = {});

    // The most likely token, if sample() is going to draw it under every mask that allows it; -1 if that depends on the mask.
    // Asking changes nothing. Throws NotNumbers.
    int32_t foresee(std::span<const float> logits, const Kernels& kernels);
    // What sample() does when it draws `token`, without drawing.
    Choice take(std::span<const float> logits, const Kernels& kernels, int n_alternatives, int32_t token);

private:
    struct Candidate {
        int32_t token;
        float logit;
    };
    bool has_penalties() const;
    bool keeps_all(size_t n_words) const;
    std::span<const float> adjusted(std::span<const float> logits, std::span<const uint32_t> mask, const Kernels& kernels);
    void adjust();
    void keep_best(std::span<const float> logits, const Kernels& kernels, size_t n);
    int32_t draw(std::span<const float> logits, float top, const Kernels& kernels);
    int32_t draw_from_many(std::span<const float> logits, float top, double total);
    void find_ranges(std::span<const float> logits, float top);
    void sort_range(std::span<const float> logits, int range);
    int32_t draw_from_all(std::span<const float> logits, float top, const Kernels& kernels);
    double most_kept(std::span<const float> logits, float top, const Kernels& kernels);
    double uniform() const;

    SamplerOptions options_;
    uint64_t draws_ = 0;
    std::vector<int32_t> history_;
    std::vector<float> adjusted_;    // a copy of the logits with mask, bias and penalties
    std::vector<float> exponentials_;
    std::vector<Candidate> best_;    // most likely first
    std::vector<double> weights_;    // of best_
    std::vector<int32_t> ranges_;    // of every token, see find_ranges
    std::vector<double> range_weights_;
};

}  // namespace madang
