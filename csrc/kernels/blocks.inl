// How a packed block of each quantized type becomes bytes, scales and minima: the one place that knows their planes.

// One block of 16 rows x 32 columns, unpacked: value = scale * (quant - zero) + min, per half block of 16 columns where the
// form has halves.
struct Block {
    Bytes quants[8];
    F32 scale[2], min[2];
};

// What a product has to do for a type: types of one form share its code.
struct Form {
    bool has_halves, has_min, is_signed;
    int largest;  // quant
    int zero;     // 0 or a power of two
};

template <Type type>
constexpr Form form_of() {
    switch (type) {
        case Type::Q4_0: return {false, false, false, 15, 8};
        case Type::Q4_1:
        case Type::Q4_K: return {false, true, false, 15, 0};
        case Type::Q5_0: return {false, false, false, 31, 16};
        case Type::Q5_1:
        case Type::Q5_K: return {false, true, false, 31, 0};
        case Type::Q6_K: return {true, false, false, 63, 32};
        case Type::Q8_0: return {false, false, true, 255, kSignedZero};
        default: return {};
    }
}

template <Type type>
static inline void load_quants(const TypeTraits& traits, const Planes& planes, const uint8_t* group, int b, Block& block) {
    const uint8_t* quants = group + planes.quants + size_t(b) * traits.quants;
    if constexpr (form_of<type>().is_signed) {
        for (int j = 0; j < 8; ++j) block.quants[j] = prepare_signed(load_bytes(quants + 64 * j));
        return;
    }
    for (int j = 0; j < 4; ++j) {
        const Bytes packed = load_bytes(quants + 64 * j);
        block.quants[j] = low_nibbles(packed);
        block.quants[j + 4] = high_nibbles(packed);
    }
    const uint8_t* high = group + planes.high + size_t(b) * traits.high;
    if constexpr (type == Type::Q5_0 || type == Type::Q5_1 || type == Type::Q5_K)
        for (int j = 0; j < 8; ++j) block.quants[j] = with_fifth_bits(block.quants[j], high + 8 * j);
    if constexpr (type == Type::Q6_K)
        for (int v = 0; v < 2; ++v) {
            const Bytes pairs = load_bytes(high + 64 * v);
            Bytes* q = block.quants + 4 * v;
            q[0] = with_pairs<0>(q[0], pairs);
            q[1] = with_pairs<1>(q[1], pairs);
            q[2] = with_pairs<2>(q[2], pairs);
            q[3] = with_pairs<3>(q[3], pairs);
        }
}

template <Type type>
static inline void load_scales(const TypeTraits& traits, const Planes& planes, const uint8_t* group, int b, Block& block) {
    const uint8_t* scales = group + planes.scales + size_t(b) * traits.scales;
    const uint8_t* mins = group + planes.mins + size_t(b) * traits.mins;
    const uint8_t* supers = group + planes.supers + size_t(b / kSuperBlocks) * traits.supers;
    if constexpr (type == Type::Q6_K) {
        const F32 super = load_half((const uint16_t*)supers);
        for (int h = 0; h < 2; ++h) block.scale[h] = mul(super, load_i8(scales + 16 * h));
    } else if constexpr (type == Type::Q4_K || type == Type::Q5_K) {
        block.scale[0] = mul(load_half((const uint16_t*)supers), load_u8(scales));
        block.min[0] = sub(zero(), mul(load_half((const uint16_t*)(supers + 32)), load_u8(mins)));
    } else {
        block.scale[0] = load_half((const uint16_t*)scales);
        if constexpr (form_of<type>().has_min) block.min[0] = load_half((const uint16_t*)mins);
    }
}
