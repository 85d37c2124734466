"""What Powervisor offers a guest as its hypervisor, by ePAPR 1.1: byte channels, doorbells, hypercalls."""
