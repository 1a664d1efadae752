"""What is somebody's sensitive attribute? Attacks on released data."""
