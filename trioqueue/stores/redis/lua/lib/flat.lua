-- Answering for several sections in one list, for send, claim and commit.

-- Lays answers out in a list without lists: each is a word, or a list that begins with one; a list within such a one
-- stands behind its length.  `answers_of` in replies.py knows by the word what follows, and takes it apart.
-- Redis keeps a list within a list in a block of its own, and up to 6.2 writes each block by itself, which wakes its
-- client each time.
local function flat(answers)
    local all, count = {}, 0
    for i = 1, #answers do
        local answer = answers[i]
        if type(answer) ~= 'table' then
            count = count + 1
            all[count] = answer
        else
            for j = 1, #answer do
                local part = answer[j]
                count = count + 1
                if type(part) ~= 'table' then
                    all[count] = part
                else
                    all[count] = #part
                    for k = 1, #part do
                        all[count + k] = part[k]
                    end
                    count = count + #part
                end
            end
        end
    end
    return all
end
