"""What libvirt needs on a host before it runs Powervisor: looking for it, doing it, and domains as XML."""
