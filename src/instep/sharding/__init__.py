"""What `instep.mpi` is made of, as far as it goes without MPI."""
