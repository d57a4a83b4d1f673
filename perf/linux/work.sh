# What a build does to text: unpack, search, edit, sort, count, pack, sum; $1 rounds.
i=0
while [ $i -lt $1 ]; do
    zcat /text.gz > /tmp/text
    grep -c debian /tmp/text
    sed -e 's/[aeiou]/-/g' /tmp/text | md5sum
    sort /tmp/text | uniq | sha1sum
    awk '{ for (n = 1; n <= NF; n++) count[$n]++ } END { for (word in count) print count[word], word }' /tmp/text |
        sort -rn | head -n 3
    tar -cf /tmp/packed /tmp/text 2> /dev/null
    sha256sum < /tmp/text
    rm /tmp/text /tmp/packed
    i=$((i + 1))
done
