#include "../../unix/variant/mpconfigvariant.h"

// Called at every jump of the bytecode, where an interrupt can occur.
void edgelora_faults_jump(void);
#define MICROPY_VM_HOOK_LOOP edgelora_faults_jump();
