"""The boundary between the hypervisor half and the machine half, in KVM's model: Vm, Vcpu, Exit."""
