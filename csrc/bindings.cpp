// The Python face of the core. Calls that compute release the interpreter lock; exceptions become ValueError.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "decoder.h"
#include "likelihood.h"
#include "sampler.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace madang;

namespace {

using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Octets = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bits = nb::ndarray<const uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::span<const int32_t> span_of(const Ints& array) { return {array.data(), array.size()}; }

std::span<const uint32_t> span_of(const std::optional<Bits>& bits) {
    return bits ? std::span<const uint32_t>{bits->data(), bits->size()} : std::span<const uint32_t>{};
}

// An array of Python's own.
template <class T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> copy_of(std::span<const T> values) {
    T* copy = new T[values.size()];
    std::copy(values.begin(), values.end(), copy);
    return {copy, {values.size()}, nb::capsule(copy, [](void* p) noexcept { delete[] static_cast<T*>(p); })};
}

void bind_decoder(nb::module_& m) {
    nb::class_<DecoderShape>(m, "DecoderShape")
        .def(nb::init<>())
        .def_rw("n_layers", &DecoderShape::n_layers)
        .def_rw("n_embd", &DecoderShape::n_embd)
        .def_rw("n_heads", &DecoderShape::n_heads)
        .def_rw("n_kv_heads", &DecoderShape::n_kv_heads)
        .def_rw("head_dim", &DecoderShape::head_dim)
        .def_rw("n_ff", &DecoderShape::n_ff)
        .def_rw("vocab_size", &DecoderShape::vocab_size)
        .def_rw("norm_epsilon", &DecoderShape::norm_epsilon)
        .def_rw("rope_interleaved", &DecoderShape::rope_interleaved)
        .def_rw("inverse_frequencies", &DecoderShape::inverse_frequencies)
        .def_rw("rope_magnitude", &DecoderShape::rope_magnitude)
        .def_rw("window_tokens", &DecoderShape::window_tokens);

    nb::class_<Decoder>(m, "Decoder")
        .def(nb::init<DecoderShape, int, const std::string&, float>(), "shape"_a, "n_threads"_a, "isa"_a, "outlier"_a = 0.0f)
        .def(
            "set_tensor",
            [](Decoder& self, const std::string& name, uint32_t type, int rows, int columns, const Octets& bytes) {
                const std::span<const uint8_t> data{bytes.data(), bytes.size()};
                nb::gil_scoped_release release;
                self.set_tensor(name, type, rows, columns, data);
            },
            "name"_a, "type"_a, "rows"_a, "columns"_a, "data"_a)
        .def("complete", &Decoder::complete)
        .def("reserve_pages", [](Decoder& self, int n) { self.cache().reserve(n); }, "n"_a, nb::call_guard<nb::gil_scoped_release>())
        .def("copy_page", [](Decoder& self, int from, int to) { self.cache().copy(from, to); }, "source"_a, "target"_a)
        .def("read_page", [](const Decoder& self, int page) { return copy_of(self.cache().read(page)); }, "page"_a)
        .def(
            "write_page",
            [](Decoder& self, int page, const Octets& bytes) { self.cache().write(page, {bytes.data(), bytes.size()}); },
            "page"_a, "data"_a)
        .def(
            "step",
            [](Decoder& self, const Ints& tokens, const Ints& positions, const Ints& sequences, const Table& page_tables,
               const Ints& outputs) {
                const Batch batch{span_of(tokens), span_of(positions), span_of(sequences),
                                  {page_tables.data(), page_tables.size()}, int(page_tables.shape(1)), span_of(outputs)};
                nb::gil_scoped_release release;
                self.step(batch);
            },
            "tokens"_a, "positions"_a, "sequences"_a, "page_tables"_a, "outputs"_a)
        .def(
            "log_probabilities",
            [](const Decoder& self, int row, const Ints& tokens) {
                const std::span<const int32_t> wanted = span_of(tokens);
                nb::gil_scoped_release release;
                const std::span<const float> logits = self.logits(row);
                std::vector<float> scratch, found;
                const LogSoftmax log_softmax(logits, self.kernels(), scratch);
                for (const int32_t token : wanted) {
                    if (token < 0 || size_t(token) >= logits.size()) throw std::invalid_argument("a token id is outside of the vocabulary");
                    found.push_back(log_softmax(logits[token]));
                }
                return std::pair(found, int(std::max_element(logits.begin(), logits.end()) - logits.begin()));
            },
            "row"_a, "tokens"_a)
        .def("logits", [](const Decoder& self, int row) { return copy_of(self.logits(row)); }, "row"_a)
        .def_prop_ro("n_pages", [](const Decoder& self) { return self.cache().n_pages(); })
        .def_prop_ro("page_bytes", [](const Decoder& self) { return self.cache().page_bytes(); })
        .def_prop_ro("weight_bytes", &Decoder::weight_bytes)
        .def_prop_ro("n_threads", &Decoder::n_threads)
        .def_prop_ro("isa", [](const Decoder& self) { return std::string(self.kernels().name); });
}

void bind_sampler(nb::module_& m) {
    nb::exception<NothingAllowed>(m, "NothingAllowed", PyExc_RuntimeError);
    nb::class_<SamplerOptions>(m, "SamplerOptions")
        .def(nb::init<>())
        .def_rw("temperature", &SamplerOptions::temperature)
        .def_rw("top_k", &SamplerOptions::top_k)
        .def_rw("top_p", &SamplerOptions::top_p)
        .def_rw("min_p", &SamplerOptions::min_p)
        .def_rw("repeat_penalty", &SamplerOptions::repeat_penalty)
        .def_rw("presence_penalty", &SamplerOptions::presence_penalty)
        .def_rw("frequency_penalty", &SamplerOptions::frequency_penalty)
        .def_rw("repeat_last_n", &SamplerOptions::repeat_last_n)
        .def_rw("seed", &SamplerOptions::seed)
        .def_rw("bias", &SamplerOptions::bias);

    nb::class_<Choice>(m, "Choice")
        .def_ro("token", &Choice::token)
        .def_ro("logprob", &Choice::logprob)
        .def_ro("alternatives", &Choice::alternatives);

    nb::class_<Sampler>(m, "Sampler")
        .def(nb::init<SamplerOptions>(), "options"_a)
        .def("accept", [](Sampler& self, const Ints& tokens) { self.accept(span_of(tokens)); }, "tokens"_a)
        .def(
            "sample",
            [](Sampler& self, const Decoder& decoder, int row, int n_alternatives, const std::optional<Bits>& mask) {
                const std::span<const uint32_t> allowed = span_of(mask);
                nb::gil_scoped_release release;
                return self.sample(decoder.logits(row), decoder.kernels(), n_alternatives, allowed);
            },
            "decoder"_a, "row"_a, "n_alternatives"_a = -1, "mask"_a.none() = nb::none())
        .def(
            "sample_from",
            [](Sampler& self, nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu> logits, int n_alternatives,
               const std::optional<Bits>& mask) {
                return self.sample({logits.data(), logits.size()}, select_kernels(""), n_alternatives, span_of(mask));
            },
            "logits"_a, "n_alternatives"_a = -1, "mask"_a.none() = nb::none(), "The same on logits of the caller's own.");
}

}  // namespace

NB_MODULE(_core, m) {
    m.attr("PAGE_TOKENS") = kPageTokens;
    m.def("available_isas", &available_isas, "Instruction sets that can run here, best first.");
    m.def(
        "tensor_types",
        [] {
            std::vector<std::pair<uint32_t, std::pair<int, int>>> types;
            for (const TypeTraits& t : all_traits()) types.push_back({uint32_t(t.type), {t.block_elements, t.block_bytes}});
            return types;
        },
        "The types that run: (id, (elements, bytes) of a block).");
    bind_decoder(m);
    bind_sampler(m);
}
