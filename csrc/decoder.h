// A decoder-only transformer: whole forward steps over a batch of tokens of any sequences.
#pragma once
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "attention.h"
#include "batch.h"
#include "cache.h"
#include "cpu.h"
#include "rows.h"
#include "shape.h"
#include "thread_pool.h"
#include "weights.h"

namespace madang {

class Decoder {
public:
    // Blocks of activations whose largest magnitude exceeds `outlier` times their row's average keep 15 bits, others 8; 0 is
    // all. Throws std::invalid_argument for an isa that cannot run here and for a shape that contradicts itself.
    Decoder(DecoderShape shape, int n_threads, const std::string& isa, float outlier);

    void set_tensor(const std::string& name, uint32_t type, int rows, int columns, std::span<const uint8_t> bytes);
    // Call once after the last tensor. Throws std::invalid_argument naming the first that is missing.
    void complete();
    size_t weight_bytes() const { return weights_.bytes(); }

    Cache& cache() { return cache_; }
    const Cache& cache() const { return cache_; }

    // Runs the batch and leaves one row of logits per output. Throws std::invalid_argument when an index is out of range,
    // or the decoder is not complete.
    void step(const Batch& batch);
    // Throws std::invalid_argument when the last step left no such row.
    std::span<const float> logits(int row) const;

    const Kernels& kernels() const { return kernels_; }
    int n_threads() const { return pool_.size(); }

private:
    struct Product {
        const PackedMatrix* matrix;
        Output out;
    };

    void check(const Batch& batch) const;
    void prepare(const Batch& batch);
    void forward(const Batch& batch, int thread);
    void run_layer(const Batch& batch, int index, int thread);
    template <class Work>
    void between(int n, Work work);
    void normalize(const Rows& from, const std::vector<float>& weight, const Rows& to, int source, int target) const;
    int piece_groups(int groups, int n_tokens) const;
    void multiply(std::initializer_list<Product> products, const Rows& in, int n);
    void gate_and_up(const Layer& layer, int n);

    const DecoderShape shape_;
    const Kernels& kernels_;
    ThreadPool pool_;
    Weights weights_;
    Cache cache_;
    Attention attention_;

    bool is_complete_ = false;
    int n_outputs_ = 0;  // rows of logits that the last step left
    Rows hidden_, attention_in_, ffn_in_, gate_, up_, last_, logits_;
};

}  // namespace madang
