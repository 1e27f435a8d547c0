// A transformer: whole forward steps over a batch of tokens of any sequences.
#pragma once
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "adapters.h"
#include "ahead.h"
#include "attention.h"
#include "batch.h"
#include "cache.h"
#include "cpu.h"
#include "experts.h"
#include "inputs.h"
#include "rows.h"
#include "shape.h"
#include "thread_pool.h"
#include "trace.h"
#include "weights.h"

namespace madang {

class Decoder {
public:
    // Blocks of activations whose largest magnitude exceeds `outlier` times their row's average keep 15 bits, others 8; 0 is
    // all. Throws std::invalid_argument for an isa that cannot run here and for a shape that contradicts itself.
    Decoder(DecoderShape shape, int n_threads, const std::string& isa, float outlier, KvType kv_type);

    void set_tensor(const std::string& name, uint32_t type, int rows, int columns, std::span<const uint8_t> bytes);
    // Call after the last tensor, and again after others took the place of some. Throws std::invalid_argument naming the first that is missing.
    void complete();
    size_t weight_bytes() const { return weights_.bytes(); }

    Cache& cache() { return cache_; }
    const Cache& cache() const { return cache_; }
    Adapters& adapters() { return adapters_; }
    ThreadPool& pool() { return pool_; }

    // Runs the batch and leaves one row per output. Throws std::invalid_argument when an index is out of range, or the
    // decoder is not complete.
    void step(const Batch& batch);
    // Logits, and the final hidden state that they are made of. Throw std::invalid_argument when the last step left no such
    // row; an encoder leaves no logits.
    std::span<const float> logits(int row) const;
    std::span<const float> hidden(int row) const;
    const Trace& trace() const { return trace_; }
    void drop_trace() { trace_.clear(); }
    const Inputs& inputs() const { return inputs_; }
    void drop_inputs() { inputs_.clear(); }
    // Rows as a step leaves them, of states of the residual stream, [n][n_embd], of any layer; without adapters. Throws
    // std::invalid_argument for an encoder, and when the states are not whole rows.
    void read_out(std::span<const float> states);

    const DecoderShape& shape() const { return shape_; }
    const Kernels& kernels() const { return kernels_; }
    int n_threads() const { return pool_.size(); }

private:
    struct Product {
        Product(const Linear& linear, const Output& to) : matrix(&linear.matrix), bias(linear.bias.row()), out(to) {}
        Product(const PackedMatrix& m, const float* b, const Output& to) : matrix(&m), bias(b), out(to) {}
        const PackedMatrix* matrix;
        const float* bias;  // or nullptr
        Output out;
    };
    using Runs = std::vector<AdapterRun>;

    bool add_readers();
    void resize(int n_tokens, int n_outputs);
    void prepare_adapters(const Batch& batch);
    void prepare(const Batch& batch);

    // Consecutive tokens, and who works on them: one thread alone, or all of them, stage by stage.
    struct Part {
        Range tokens;
        bool alone;
        int size() const { return tokens.end - tokens.begin; }
    };

    int tokens_per_part(int n_tokens) const;
    template <class Work>
    void between(const Part& part, Work work, Ahead ahead);
    template <class Work>
    void between(const Part& part, Work work) { between(part, work, Ahead(kernels_)); }
    template <class Work>
    void share_groups(const Part& part, int groups, Work work);
    Ahead ahead(std::initializer_list<const PackedMatrix*> matrices, const Part& part, bool side_by_side = false) const;
    int piece_groups(int groups, int n_tokens) const;
    void multiply(std::initializer_list<Product> products, const Rows& in, const Part& part, const Runs& runs);
    void project(const Product& product, const Activations& in, Range groups, Range rows);
    void lower(std::initializer_list<Product> products, const Rows& in, const Part& part, const Runs& runs);
    void raise(const Product& product, const Rows& low, Range groups, Range rows, const Runs& runs);
    void gate_and_up(const FeedForward& ffn, const Activations& in, Range groups, Range rows, const Runs& runs);

    void embed(const Batch& batch, int token);
    void read_stream(const Norm& norm, const Rows& to, int source, int target) const;
    void join_stream(const Norm& post_norm, bool direct, int token) const;
    void end_ffn(const Layer& layer, int token);
    void begin_layer(int index, int token);
    const Rows& ffn_input() const { return shares_input_ ? attention_in_ : ffn_in_; }
    // Whether the feed-forward part adds to what attention left in branch_.
    bool branches_add() const { return shape_.parallel && !attention_direct_; }

    void run_keys(const Part& part, int index, int thread);
    void run_attention(const Part& part, int index, int thread);
    void end_gate(int layer, int row);
    void run_ffn(const Part& part, int index);
    template <class Work>
    void share_experts(const Layer& layer, int groups, int n, Work work);
    void run_experts(const Part& part, int index);
    void run_rest(const Part& part, int index, int thread);
    void run_output(int n);
    void run_together(int n, int thread);
    void run_in_parts(int n, int thread);
    void forward(const Batch& batch, int thread);

    const DecoderShape shape_;
    const Kernels& kernels_;
    ThreadPool pool_;
    Weights weights_;
    Cache cache_;
    Attention attention_;
    Routing routing_;
    Adapters adapters_;
    Trace trace_;
    Inputs inputs_;

    bool is_complete_ = false;
    // How branches join the residual stream: `direct` ones are added by the product itself, others wait in branch_.
    bool attention_direct_ = true, ffn_direct_ = true;
    bool joins_after_attention_ = false, joins_after_ffn_ = false, shares_input_ = false;
    int part_tokens_ = 0;               // of this step; 0 when all threads work on all tokens
    int n_outputs_ = 0, n_logits_ = 0;  // rows that the last step left
    Rows hidden_, attention_in_, ffn_in_, branch_, gate_, up_, router_, expert_in_, expert_out_, last_, logits_;
    Runs token_runs_, output_runs_;  // of adapters
    std::vector<Rows> low_;          // A x, for each product of a stage
};

}  // namespace madang
