# Every other list of the C functions is made from csrc/instep.h, in the order there:
#     instep_capi.h         the members of the struct of pointers
#     functions.def         FUNCTION(name, signature), the signature as Cython spells it in the names of capsules
#     functions.pxi         for `cimport instep`: those that the package exports
#     extern_functions.pxi  for the binding: the same, where it is linked to them
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS csrc/instep.h)

set(word "[a-z0-9_]+")
set(argument "(const )?${word} \\**${word}")
set(declaration "^INSTEP_API ((const )?${word} \\**)instep_(${word})\\((void|${argument}(, ${argument})*)\\);$")

set(members "")
set(roll_call "")
set(for_cython "")
file(STRINGS csrc/instep.h lines REGEX "^[^#]*INSTEP_API")
foreach(line IN LISTS lines)
    if(NOT line MATCHES "${declaration}")
        message(FATAL_ERROR "csrc/instep.h: no declaration of one line, of types and names alone: ${line}")
    endif()
    set(type "${CMAKE_MATCH_1}")
    set(name "${CMAKE_MATCH_3}")
    set(arguments "${CMAKE_MATCH_4}")

    string(REGEX REPLACE "^void$" "" without_void "${arguments}")
    string(APPEND for_cython "    ${type}instep_${name}(${without_void}) noexcept nogil\n")
    if(name STREQUAL abi_version) # a number in the struct, which comes first in it
        continue()
    endif()
    string(APPEND members "    ${type}(*${name})(${arguments});\n")
    string(REGEX REPLACE "const (${word})" "\\1 const" signature "${type}(${arguments})")
    string(REGEX REPLACE "([ *])${word}([,)])" "\\1\\2" signature "${signature}")
    string(REGEX REPLACE " ([,)])" "\\1" signature "${signature}")
    string(APPEND roll_call "FUNCTION(${name}, \"${signature}\")\n")
endforeach()
if(members STREQUAL "")
    message(FATAL_ERROR "csrc/instep.h: no function is declared INSTEP_API")
endif()

configure_file(csrc/instep_capi.h.in instep_capi.h @ONLY)
file(CONFIGURE OUTPUT functions.def CONTENT "${roll_call}")
file(CONFIGURE OUTPUT functions.pxi CONTENT "cdef:\n${for_cython}")
file(CONFIGURE OUTPUT extern_functions.pxi CONTENT "cdef extern from \"instep.h\":\n${for_cython}")
