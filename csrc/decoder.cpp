#include "decoder.h"

#include <functional>
#include <numeric>
#include <stdexcept>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace madang {

namespace {

constexpr int kSerialTokens = 2;       // up to here, sharing row work costs more than doing it
constexpr int kMemoryBoundTokens = 8;  // up to here, products wait for memory
// Of parts that one thread takes through a layer: fewer would read weights for too little, and the rows of more would not
// stay in a core's own cache.
constexpr int kMinPartTokens = 6, kMaxPartTokens = 128;
constexpr int kLogitPiece = 4096;      // logits that a thread scales at a time
constexpr int kMaxStageProducts = 3;

DecoderShape checked(DecoderShape shape) {
    shape.check();
    return shape;
}

// 0, 1, ... n - 1
std::vector<int32_t> counted(int n) {
    std::vector<int32_t> numbers(static_cast<size_t>(n));
    std::iota(numbers.begin(), numbers.end(), 0);
    return numbers;
}

}  // namespace

// ---- setting up ------------------------------------------------------------------------------------------------------

Decoder::Decoder(DecoderShape shape, int n_threads, const std::string& isa, float outlier, KvType kv_type)
    : shape_(checked(std::move(shape))), kernels_(select_kernels(isa)), pool_(n_threads), weights_(shape_), cache_(shape_, kv_type),
      attention_(shape_, kernels_, cache_, pool_.size()), routing_(shape_), adapters_(weights_), trace_(shape_), inputs_(shape_) {
    const DecoderShape& s = shape_;
    for (Rows* rows : {&hidden_, &branch_, &expert_out_}) rows->set_width(s.n_embd);
    // Queries, keys, values, routers and the last rows always keep 15 bits: little work, and much depends on it.
    for (Rows* rows : {&attention_in_, &last_}) rows->set_width(s.n_embd);
    attention_.query.set_width(s.n_heads * s.head_dim);
    attention_.key.set_width(s.n_kv_heads * s.head_dim);
    attention_.value.set_width(s.n_kv_heads * s.head_dim);
    attention_.attended.set_width(s.n_heads * s.head_dim, outlier);
    ffn_in_.set_width(s.n_embd, s.n_experts > 0 ? 0 : outlier);
    expert_in_.set_width(s.n_embd, outlier);
    gate_.set_width(s.n_ff, outlier);
    up_.set_width(s.n_ff);
    router_.set_width(s.n_experts);
    logits_.set_width(s.vocab_size);
}

void Decoder::set_tensor(const std::string& name, uint32_t type, int rows, int columns, std::span<const uint8_t> bytes) {
    weights_.set(name, type, rows, columns, bytes, pool_);
}

void Decoder::complete() {
    weights_.complete();
    const DecoderShape& s = shape_;
    const Layer& layer = weights_.layers[0];  // all have the same tensors
    const auto direct = [&](const Norm& post_norm) { return s.residual_scale == 1 && (post_norm.empty() || s.norms_sum); };
    attention_direct_ = direct(layer.attention_post_norm);
    ffn_direct_ = direct(layer.ffn_post_norm) && s.n_experts == 0;
    joins_after_attention_ = !s.parallel && (!attention_direct_ || s.norms_sum);
    joins_after_ffn_ = !ffn_direct_ || s.norms_sum;
    shares_input_ = s.parallel && layer.ffn_norm.empty();
    if (add_readers())  // the next step makes room
        for (Rows* rows : {&hidden_, &last_}) rows->resize(0);
#if defined(__GLIBC__)
    malloc_trim(0);  // the bytes of the files, which were freed tensor by tensor, would stay with this process
#endif
    is_complete_ = true;
}

bool Decoder::add_readers() {
    bool any_new = false;
    const auto reads = [&](Rows& rows, const Linear& linear) {
        if (!linear.matrix.empty()) any_new |= rows.add_reader(linear.matrix, kernels_);
    };
    if (shape_.causal) any_new |= last_.add_reader(weights_.output_matrix(), kernels_);
    Rows& ffn_in = shares_input_ ? attention_in_ : ffn_in_;
    for (const Layer& layer : weights_.layers) {
        for (const Linear* linear : {&layer.query, &layer.key, &layer.value}) reads(attention_in_, *linear);
        reads(attention_.attended, layer.attention_output);
        for (const Linear* linear : {&layer.router, &layer.ffn.gate, &layer.ffn.up}) reads(ffn_in, *linear);
        reads(gate_, layer.ffn.down);
        for (const FeedForward& expert : layer.experts) {
            reads(expert_in_, expert.gate);
            reads(expert_in_, expert.up);
            reads(gate_, expert.down);
        }
    }
    return any_new;
}

void Decoder::resize(int n_tokens, int n_outputs) {
    if (n_tokens > hidden_.size()) {
        const int n_slots = n_tokens * shape_.slots_per_token();
        for (Rows* rows : {&attention_in_, &ffn_in_}) rows->resize(n_tokens);
        if (!attention_direct_ || !ffn_direct_) branch_.resize(n_tokens);
        gate_.resize(n_slots);
        if (shape_.gated) up_.resize(n_slots);
        if (shape_.n_experts > 0) {
            router_.resize(n_tokens);
            for (Rows* rows : {&expert_in_, &expert_out_}) rows->resize(n_slots);
        }
        attention_.resize(n_tokens);
        hidden_.resize(n_tokens);  // last: its size says that all are there
    }
    if (n_outputs > last_.size()) {
        if (shape_.causal) logits_.resize(n_outputs);
        last_.resize(n_outputs);
    }
}

void Decoder::prepare_adapters(const Batch& batch) {
    token_runs_.clear();
    output_runs_.clear();
    if (batch.adapters.empty()) return;
    token_runs_ = adapters_.runs(batch, counted(batch.size()));
    output_runs_ = adapters_.runs(batch, batch.outputs);
    const int n = std::max(batch.size(), int(batch.outputs.size()));
    low_.resize(kMaxStageProducts);
    for (Rows& low : low_) {
        if (low.size() >= n && low.width() >= adapters_.max_rank()) continue;
        low.set_width(adapters_.max_rank());
        low.resize(n);
    }
}

void Decoder::prepare(const Batch& batch) {
    resize(batch.size(), int(batch.outputs.size()));
    prepare_adapters(batch);
    part_tokens_ = tokens_per_part(batch.size());
    attention_.prepare(batch, part_tokens_);
    trace_.prepare(batch);
    inputs_.prepare(batch);
}

void Decoder::step(const Batch& batch) {
    if (!is_complete_) throw std::invalid_argument("the decoder has not been completed");
    batch.check(shape_, cache_.n_pages(), weights_.position_embedding.rows, weights_.type_embedding.rows);
    adapters_.check(batch);
    n_outputs_ = n_logits_ = 0;
    prepare(batch);
    const std::function<void(int)> job = [&](int thread) { forward(batch, thread); };
    pool_.run(job);
    n_outputs_ = int(batch.outputs.size());
    n_logits_ = shape_.causal && batch.wants_logits ? n_outputs_ : 0;
}

void Decoder::read_out(std::span<const float> states) {
    if (!is_complete_ || !shape_.causal) throw std::invalid_argument("only a complete decoder of text has logits");
    if (states.size() % size_t(shape_.n_embd)) throw std::invalid_argument("the states are not whole rows");
    const int n = int(states.size() / size_t(shape_.n_embd));
    n_outputs_ = n_logits_ = 0;
    output_runs_.clear();
    resize(n, n);
    if (n == 0) return;
    for (int t = 0; t < n; ++t) std::copy_n(states.data() + size_t(t) * shape_.n_embd, shape_.n_embd, hidden_.row(t));
    pool_.run([&](int) {
        between({{0, n}, false}, [&](int t) { read_stream(weights_.output_norm, last_, t, t); });
        run_output(n);
    });
    n_outputs_ = n_logits_ = n;
}

std::span<const float> Decoder::logits(int row) const {
    if (row < 0 || row >= n_logits_) throw std::invalid_argument("the last step left no such row of logits");
    return {logits_.row(row), size_t(shape_.vocab_size)};
}

std::span<const float> Decoder::hidden(int row) const {
    if (row < 0 || row >= n_outputs_) throw std::invalid_argument("the last step left no such row of hidden states");
    return {last_.row(row), size_t(shape_.n_embd)};
}

// ---- stages ----------------------------------------------------------------------------------------------------------

// Tokens that a thread takes at a time when it works on its own; 0 when all threads work on all tokens: few, so that each
// weight should be read once, or with experts, whose weights only some tokens share.
int Decoder::tokens_per_part(int n_tokens) const {
    const int threads = pool_.size(), most = kMaxPartTokens * threads;
    if (shape_.n_experts > 0 || n_tokens < kMinPartTokens * threads) return 0;
    const int rounds = std::max((n_tokens + most - 1) / most, n_tokens * 2 >= most ? 2 : 1);  // later tokens take longer
    const int n_parts = rounds * threads, even = (n_tokens + n_parts - 1) / n_parts;
    return int(round_up(even, even > 8 ? 4 : 2));  // register tiles
}

// Ends a stage and does row work, row by row, before the next: by the last thread when it is little, else by all. Those who
// wait fetch what they need `ahead`.
template <class Work>
void Decoder::between(const Part& part, Work work, Ahead ahead) {
    const auto rows_work = [&](Range rows) {
        for (int t = rows.begin; t < rows.end; ++t) work(t);
    };
    const auto meanwhile = [&] { return ahead.fetch(); };
    if (part.alone) {
        rows_work(part.tokens);
    } else if (part.size() <= kSerialTokens) {
        pool_.barrier([&] { rows_work(part.tokens); }, meanwhile);
    } else {
        pool_.barrier();
        pool_.share(part.size(), 2, rows_work);
        pool_.barrier([] {}, meanwhile);
    }
}

template <class Work>
void Decoder::share_groups(const Part& part, int groups, Work work) {
    if (part.alone) work(Range{0, groups});
    else pool_.share(groups, piece_groups(groups, part.size()), work);
}

// What this thread will read first of a product with the matrices: one after the other, or the same groups of each.
Ahead Decoder::ahead(std::initializer_list<const PackedMatrix*> matrices, const Part& part, bool side_by_side) const {
    Ahead ahead(kernels_);
    if (part.size() > kMemoryBoundTokens) return ahead;
    int groups = 0, offset = 0;
    for (const PackedMatrix* matrix : matrices) groups = side_by_side ? matrix->groups() : groups + matrix->groups();
    const Range range = pool_.first_piece(groups, piece_groups(groups, part.size()));
    for (const PackedMatrix* matrix : matrices) {
        ahead.add(*matrix, {std::max(0, range.begin - offset), std::min(matrix->groups(), range.end - offset)});
        if (!side_by_side) offset += matrix->groups();
    }
    return ahead;
}

// Row groups that a thread takes at a time. With few tokens each piece starts with a wait for memory, so there is one each.
int Decoder::piece_groups(int groups, int n_tokens) const {
    const bool few = n_tokens <= kMemoryBoundTokens;
    const int pieces = pool_.size() * (few ? 1 : 8);
    const int even = (groups + pieces - 1) / pieces;
    return few ? even : int(round_up(even, kernels_.group_tile));
}

void Decoder::multiply(std::initializer_list<Product> products, const Rows& in, const Part& part, const Runs& runs) {
    if (!runs.empty()) lower(products, in, part, runs);
    int groups = 0;
    for (const Product& product : products) groups += product.matrix->groups();
    const Activations activations = in.activations();
    share_groups(part, groups, [&](Range range) {
        int offset = 0;
        size_t i = 0;
        for (const Product& product : products) {
            const Range own{std::max(0, range.begin - offset), std::min(product.matrix->groups(), range.end - offset)};
            if (own.begin < own.end) project(product, activations, own, part.tokens);
            if (own.begin < own.end && !runs.empty()) raise(product, low_[i], own, part.tokens, runs);
            offset += product.matrix->groups();
            ++i;
        }
    });
}

// A product's groups, with its bias.
void Decoder::project(const Product& product, const Activations& in, Range groups, Range rows) {
    kernels_.multiply(*product.matrix, groups, in, rows, product.out);
    if (!product.bias) return;
    for (int t = rows.begin; t < rows.end; ++t) {
        float* out = product.out.data + size_t(t) * product.out.stride;
        for (int c = groups.begin * kLanes; c < groups.end * kLanes; ++c) out[c] += product.bias[c];
    }
}

// An adapter's first factor: low = scale * A x, for all products of a stage.
void Decoder::lower(std::initializer_list<Product> products, const Rows& in, const Part& part, const Runs& runs) {
    const Activations activations = in.activations();
    const auto lower_rows = [&](Range rows) {
        size_t i = 0;
        for (const Product& product : products) {
            const Rows& low = low_[i++];
            for (const AdapterRun& run : runs) {
                const Range own = overlap(rows, run.rows);
                const LowRank* adapter = own.begin < own.end ? adapters_.find(run.adapter, product.matrix) : nullptr;
                if (!adapter) continue;
                kernels_.multiply(adapter->a, {0, adapter->a.groups()}, activations, own, low.output());
                for (int t = own.begin; t < own.end; ++t)
                    for (int c = 0; c < adapter->a.rows; ++c) low.row(t)[c] *= run.scale;
            }
        }
    };
    if (part.alone) return lower_rows(part.tokens);
    pool_.share(part.size(), kMaxQueryTile, lower_rows);
    pool_.barrier();
}

// The second: out += B low.
void Decoder::raise(const Product& product, const Rows& low, Range groups, Range rows, const Runs& runs) {
    for (const AdapterRun& run : runs) {
        const Range own = overlap(rows, run.rows);
        const LowRank* adapter = own.begin < own.end ? adapters_.find(run.adapter, product.matrix) : nullptr;
        if (adapter) kernels_.multiply(adapter->b, groups, low.activations(), own, {product.out.data, product.out.stride, true});
    }
}

// gate = activation(gate) * up, or activation(up)
void Decoder::gate_and_up(const FeedForward& ffn, const Activations& in, Range groups, Range rows, const Runs& runs) {
    if (shape_.gated) {
        const Product gate(ffn.gate, gate_.output());
        project(gate, in, groups, rows);
        if (!runs.empty()) raise(gate, low_[0], groups, rows, runs);
    }
    const Product up(ffn.up, shape_.gated ? up_.output() : gate_.output());
    project(up, in, groups, rows);
    if (!runs.empty()) raise(up, low_[1], groups, rows, runs);
    const int begin = groups.begin * kLanes, n = (groups.end - groups.begin) * kLanes;
    for (int t = rows.begin; t < rows.end; ++t)
        kernels_.activate(shape_.activation, gate_.row(t) + begin, shape_.gated ? up_.row(t) + begin : nullptr, n);
}

// ---- rows of the residual stream -------------------------------------------------------------------------------------

void Decoder::embed(const Batch& batch, int token) {
    const int n = shape_.n_embd;
    float* row = hidden_.row(token);
    unpack_row(weights_.token_embedding, batch.tokens[token], row);
    if (shape_.embedding_scale != 1)
        for (int i = 0; i < n; ++i) row[i] *= shape_.embedding_scale;
    if (const float* type = weights_.type_embedding.row(batch.types.empty() ? 0 : batch.types[token]))
        for (int i = 0; i < n; ++i) row[i] += type[i];
    if (!weights_.position_embedding.empty()) {
        float* position = attention_in_.row(token);  // free until the first layer
        unpack_row(weights_.position_embedding, batch.positions[token], position);
        for (int i = 0; i < n; ++i) row[i] += position[i];
    }
    if (!weights_.embedding_norm.empty()) weights_.embedding_norm.apply(shape_, kernels_, row, row, n);
}

// What a branch reads: the stream, normalized where there is a norm.
void Decoder::read_stream(const Norm& norm, const Rows& to, int source, int target) const {
    const float* row = hidden_.row(source);
    if (norm.empty()) std::copy(row, row + shape_.n_embd, to.row(target));
    else norm.apply(shape_, kernels_, row, to.row(target), shape_.n_embd);
    to.encode(kernels_, target);
}

// The end of a branch whose product could not simply be added to the stream.
void Decoder::join_stream(const Norm& post_norm, bool direct, int token) const {
    const int n = shape_.n_embd;
    float* stream = hidden_.row(token);
    if (!direct) {
        float* branch = branch_.row(token);
        if (!post_norm.empty() && !shape_.norms_sum) post_norm.apply(shape_, kernels_, branch, branch, n);
        for (int i = 0; i < n; ++i) stream[i] += shape_.residual_scale * branch[i];
    }
    if (shape_.norms_sum) post_norm.apply(shape_, kernels_, stream, stream, n);
}

void Decoder::end_ffn(const Layer& layer, int token) {
    if (shape_.n_experts > 0) {
        float* branch = branch_.row(token);
        if (!branches_add()) std::fill(branch, branch + shape_.n_embd, 0.0f);
        routing_.combine(token, expert_out_, branch, shape_.n_embd);
    }
    join_stream(layer.ffn_post_norm, ffn_direct_, token);
}

void Decoder::begin_layer(int index, int token) {
    const Layer& layer = weights_.layers[size_t(index)];
    if (index > 0 && joins_after_ffn_) end_ffn(weights_.layers[size_t(index) - 1], token);
    if (trace_.on()) trace_.keep_hidden(index, token, hidden_.row(token));
    read_stream(layer.attention_norm, attention_in_, token, token);
    if (shape_.parallel && !shares_input_) read_stream(layer.ffn_norm, ffn_in_, token, token);
    if (inputs_.on()) inputs_.keep(index, Input::attention, token, attention_in_.row(token));
    if (inputs_.on() && shape_.parallel) inputs_.keep(index, Input::ffn, token, ffn_input().row(token));
}

// ---- a step ----------------------------------------------------------------------------------------------------------

// What a layer leaves for others to read: its keys and values.
void Decoder::run_keys(const Part& part, int index, int thread) {
    const Layer& layer = weights_.layers[size_t(index)];
    between(part, [&](int t) { begin_layer(index, t); }, ahead({&layer.query.matrix, &layer.key.matrix, &layer.value.matrix}, part));
    multiply({{layer.query, attention_.query.output()}, {layer.key, attention_.key.output()}, {layer.value, attention_.value.output()}},
             attention_in_, part, token_runs_);
    between(part, [&](int t) { attention_.store(layer, index, t, thread); }, ahead({&layer.attention_output.matrix}, part));
}

void Decoder::run_attention(const Part& part, int index, int thread) {
    const Layer& layer = weights_.layers[size_t(index)];
    const Range tiles = attention_.tiles(part.tokens);
    const int n_tiles = tiles.end - tiles.begin;
    const auto attend = [&](Range units) {  // head by head: its keys and values stay in the cache
        for (int u = units.begin; u < units.end; ++u) attention_.attend(index, tiles.begin + u % n_tiles, u / n_tiles, thread);
    };
    const int units = n_tiles * attention_.head_units();
    if (part.alone) {
        attend({0, units});
    } else if (attention_.is_split()) {
        const int pieces = attention_.pieces(), shares = 4 * pool_.size();
        pool_.share(pieces, (pieces + shares - 1) / shares, [&](Range own) { attention_.attend_pieces(index, own, thread); });
    } else {
        pool_.share(units, 1, attend);
    }
    const auto encode = [&](int t) {
        if (attention_.is_split()) attention_.merge(index, t, thread);
        attention_.attended.encode(kernels_, t);
        if (trace_.on()) trace_.keep_attention(index, t, attention_);
        if (inputs_.on()) inputs_.keep(index, Input::attention_output, t, attention_.attended.row(t));
    };
    between(part, encode, ahead({&layer.attention_output.matrix}, part));
    const Output out = attention_direct_ ? hidden_.output(true) : branch_.output();
    multiply({{layer.attention_output, out}}, attention_.attended, part, token_runs_);
}

// What ffn_down reads, once it is all there.
void Decoder::end_gate(int layer, int row) {
    gate_.encode(kernels_, row);
    if (inputs_.on()) inputs_.keep(layer, Input::ffn_down, row, gate_.row(row));
}

void Decoder::run_ffn(const Part& part, int index) {
    const Layer& layer = weights_.layers[size_t(index)];
    const Rows& in = ffn_input();
    if (!token_runs_.empty()) lower({{layer.ffn.gate, gate_.output()}, {layer.ffn.up, up_.output()}}, in, part, token_runs_);
    const Activations activations = in.activations();
    share_groups(part, layer.ffn.up.matrix.groups(), [&](Range groups) {
        gate_and_up(layer.ffn, activations, groups, part.tokens, token_runs_);
    });
    between(part, [&](int t) { end_gate(index, t); }, ahead({&layer.ffn.down.matrix}, part));
    multiply({{layer.ffn.down, ffn_direct_ ? hidden_.output(true) : branch_.output(branches_add())}}, gate_, part, token_runs_);
}

// Hands out the row groups of all experts that any token takes: work(expert, groups, slots).
template <class Work>
void Decoder::share_experts(const Layer& layer, int groups, int n, Work work) {
    const std::span<const Routing::Share> shares = routing_.shares();
    const int total = groups * int(shares.size());
    pool_.share(total, piece_groups(total, n), [&](Range range) {
        for (int at = range.begin; at < range.end;) {
            const Routing::Share& share = shares[size_t(at / groups)];
            const Range own{at % groups, std::min(groups, at % groups + range.end - at)};
            work(layer.experts[size_t(share.expert)], own, share.slots);
            at += own.end - own.begin;
        }
    });
}

void Decoder::run_experts(const Part& part, int index) {
    const Layer& layer = weights_.layers[size_t(index)];
    const Rows& in = ffn_input();
    const int n = part.size(), n_slots = n * shape_.n_experts_used;
    const auto gather = [&](Range slots) {
        for (int s = slots.begin; s < slots.end; ++s) {
            const float* row = in.row(routing_.token_of(s));
            std::copy(row, row + shape_.n_embd, expert_in_.row(s));
            expert_in_.encode(kernels_, s);
        }
    };
    multiply({{layer.router, router_.output()}}, in, part, token_runs_);
    pool_.barrier([&] {
        routing_.assign(router_, n);
        if (inputs_.on()) inputs_.keep_slots(index, routing_);
        if (n <= kSerialTokens) gather({0, n_slots});
    });
    if (n > kSerialTokens) {
        pool_.share(n_slots, 2, gather);
        pool_.barrier();
    }
    share_experts(layer, layer.experts[0].up.matrix.groups(), n, [&](const FeedForward& expert, Range groups, Range slots) {
        gate_and_up(expert, expert_in_.activations(), groups, slots, {});
    });
    between({{0, n_slots}, false}, [&](int s) { end_gate(index, s); });
    share_experts(layer, layer.experts[0].down.matrix.groups(), n, [&](const FeedForward& expert, Range groups, Range slots) {
        project({expert.down, expert_out_.output()}, gate_.activations(), groups, slots);
    });
}

// The rest of a layer, once the keys and values that its tokens see are there.
void Decoder::run_rest(const Part& part, int index, int thread) {
    const Layer& layer = weights_.layers[size_t(index)];
    run_attention(part, index, thread);
    if (shape_.parallel) {
        if (!part.alone) pool_.barrier();
    } else {
        const auto join = [&](int t) {
            if (joins_after_attention_) join_stream(layer.attention_post_norm, attention_direct_, t);
            read_stream(layer.ffn_norm, ffn_in_, t, t);
            if (inputs_.on()) inputs_.keep(index, Input::ffn, t, ffn_in_.row(t));
        };
        const PackedMatrix& up = layer.ffn.up.matrix;  // of no groups where there are experts
        between(part, join, shape_.gated ? ahead({&layer.ffn.gate.matrix, &up}, part, true) : ahead({&up}, part));
    }
    if (shape_.n_experts > 0) run_experts(part, index);
    else run_ffn(part, index);
}

void Decoder::run_output(int n) {
    multiply({{weights_.output_matrix(), weights_.output.bias.row(), logits_.output()}}, last_, {{0, n}, false}, output_runs_);
    if (shape_.logit_scale == 1 && !shape_.logit_softcap) return;
    pool_.barrier();
    const int per_row = (logits_.width() + kLogitPiece - 1) / kLogitPiece;
    pool_.share(n * per_row, 1, [&](Range pieces) {
        for (int p = pieces.begin; p < pieces.end; ++p) {
            const int begin = p % per_row * kLogitPiece, size = std::min(kLogitPiece, logits_.width() - begin);
            float* piece = logits_.row(p / per_row) + begin;
            for (int i = 0; i < size; ++i) piece[i] *= shape_.logit_scale;
            if (shape_.logit_softcap) kernels_.soft_cap(piece, size, *shape_.logit_softcap);
        }
    });
}

// All threads at one product after the other.
void Decoder::run_together(int n, int thread) {
    const Part all{{0, n}, false};
    for (int i = 0; i < shape_.n_layers; ++i) {
        run_keys(all, i, thread);
        run_rest(all, i, thread);
    }
}

// Each thread with tokens of its own: it waits for others only where attention needs their keys and values, and its rows
// stay in its core's cache. The last tokens, which see most, come first.
void Decoder::run_in_parts(int n, int thread) {
    const int n_parts = (n + part_tokens_ - 1) / part_tokens_;
    for (int i = 0; i <= shape_.n_layers; ++i) {
        pool_.barrier();
        pool_.share(n_parts, 1, [&](Range parts) {
            const int begin = (n_parts - 1 - parts.begin) * part_tokens_;
            const Part part{{begin, std::min(n, begin + part_tokens_)}, true};
            if (i > 0) run_rest(part, i - 1, thread);
            if (i < shape_.n_layers) run_keys(part, i, thread);
        });
    }
}

void Decoder::forward(const Batch& batch, int thread) {
    const int n = batch.size(), n_outputs = int(batch.outputs.size());
    pool_.share(n, 1, [&](Range tokens) {
        for (int t = tokens.begin; t < tokens.end; ++t) embed(batch, t);
    });
    if (part_tokens_ > 0) run_in_parts(n, thread);
    else run_together(n, thread);
    if (joins_after_ffn_ || trace_.on())
        between({{0, n}, false}, [&](int t) {
            if (joins_after_ffn_) end_ffn(weights_.layers.back(), t);
            if (trace_.on()) trace_.keep_hidden(shape_.n_layers, t, hidden_.row(t));
        });
    if (n_outputs == 0) return pool_.barrier();
    const Part outputs{{0, n_outputs}, false};
    between(outputs, [&](int i) { read_stream(weights_.output_norm, last_, batch.outputs[i], i); },
            ahead({&weights_.output_matrix()}, outputs));
    if (shape_.causal && batch.wants_logits) run_output(n_outputs);
}

}  // namespace madang
