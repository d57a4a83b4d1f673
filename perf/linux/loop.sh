# A loop of the shell's own: $1 rounds.
i=0
while [ $i -lt $1 ]; do
    i=$((i + 1))
done
