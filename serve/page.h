// The page at /: a prompt, and its continuation as it comes.
#pragma once

namespace mblm {

extern const char* const page;  // HTML without any other file

}  // namespace mblm
