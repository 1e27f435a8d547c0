# add_core(target): what needs no Python of the core, with the kernels of the processor that it is built for.
#
# One kernel file per instruction set, each compiled for it alone; which one runs is decided at run time (csrc/cpu.cpp).
# All types together exceed the growth by inlining that GCC allows a file, and a block that is not inlined goes through memory.

set(csrc ${CMAKE_CURRENT_LIST_DIR})

function(add_kernels target name gnu_flags msvc_flags)
  set(file ${csrc}/kernels/${name}.cpp)
  target_sources(${target} PRIVATE ${file})
  if(MSVC)
    set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${msvc_flags}")
  else()
    # GCC's own AVX-512 headers trip its warning about uninitialized values.
    set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS
      "${gnu_flags};-Wno-uninitialized;-Wno-maybe-uninitialized;$<$<CXX_COMPILER_ID:GNU>:--param=inline-unit-growth=1000>")
  endif()
endfunction()

# The same of quantizers. Their results must not depend on where they run: no contraction, which some sets have and others not.
function(add_quantizers target name gnu_flags msvc_flags)
  set(file ${csrc}/quantizers/${name}.cpp)
  target_sources(${target} PRIVATE ${file})
  if(MSVC)
    set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${msvc_flags}")
  else()
    set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS
      "${gnu_flags};-ffp-contract=off;-Wno-uninitialized;-Wno-maybe-uninitialized;-Wno-unused-function")
  endif()
endfunction()

function(add_core target)
  target_sources(${target} PRIVATE ${csrc}/cpu.cpp ${csrc}/layout.cpp ${csrc}/quantizers/packing.cpp
    ${csrc}/quantizers/quantizers.cpp ${csrc}/thread_pool.cpp ${csrc}/types/codebook.cpp ${csrc}/types/simple.cpp ${csrc}/types/super.cpp
    ${csrc}/types/table.cpp)
  # The kernels need none of errno or traps.
  if(MSVC)
    target_compile_options(${target} PRIVATE /O2 /W3)
  else()
    target_compile_options(${target} PRIVATE -O3 -fno-math-errno -fno-trapping-math -Wall -Wextra)
  endif()
  # No contraction where the compiler chooses the instructions: it might round a sum otherwise in another tile.
  add_kernels(${target} portable "-ffp-contract=off" "")
  add_quantizers(${target} portable "" "")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    target_compile_definitions(${target} PRIVATE MADANG_X86)
    set(avx2 -mavx2 -mfma -mf16c)
    set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni)
    add_kernels(${target} avx2 "${avx2}" "/arch:AVX2")
    add_kernels(${target} avx2vnni "${avx2};-mavxvnni" "/arch:AVX2;/D__AVXVNNI__")
    add_kernels(${target} avx512 "${avx512}" "/arch:AVX512")
    add_quantizers(${target} avx2 "${avx2}" "/arch:AVX2")
    add_quantizers(${target} avx512 "${avx512}" "/arch:AVX512")
    add_kernels(${target} avx512bf16 "${avx512};-mavx512bf16" "/arch:AVX512;/D__AVX512BF16__")
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$" AND NOT MSVC)
    target_compile_definitions(${target} PRIVATE MADANG_ARM64)
    add_kernels(${target} neon "-march=armv8.2-a+dotprod;-ffp-contract=off" "")
    add_quantizers(${target} neon "-march=armv8.2-a+dotprod" "")
  endif()
endfunction()
