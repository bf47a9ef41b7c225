"""From a painter's own folder of pictures to what this project's trainers read."""
