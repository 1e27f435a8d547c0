// How a packed block of each quantized type becomes bytes, scales and minima: the one place that knows their planes.

// One block of 16 rows x 32 columns, unpacked: value = scale * quant + min, per half block of 16 columns for Q6_K.
struct Block {
    Bytes quants[8];
    F32 scale[2], min[2];
};

template <Type type>
constexpr bool kSigned8 = type == Type::Q8_0;
template <Type type>
constexpr bool kHalves = type == Type::Q6_K;

template <Type type>
static inline void load_quants(const TypeTraits& traits, const Planes& planes, const uint8_t* group, int b, Block& block) {
    const uint8_t* quants = group + planes.quants + size_t(b) * traits.quants;
    if constexpr (kSigned8<type>) {
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
        for (int h = 0; h < 2; ++h) {
            block.scale[h] = mul(super, load_i8(scales + 16 * h));
            block.min[h] = mul(block.scale[h], broadcast(-32));
        }
    } else if constexpr (type == Type::Q4_K || type == Type::Q5_K) {
        block.scale[0] = mul(load_half((const uint16_t*)supers), load_u8(scales));
        block.min[0] = sub(zero(), mul(load_half((const uint16_t*)(supers + 32)), load_u8(mins)));
    } else {
        block.scale[0] = load_half((const uint16_t*)scales);
        if constexpr (type == Type::Q4_1 || type == Type::Q5_1)
            block.min[0] = load_half((const uint16_t*)mins);
        else
            block.min[0] = mul(block.scale[0], broadcast(type == Type::Q4_0 ? -8 : type == Type::Q5_0 ? -16 : -kSignedZero));
    }
}
